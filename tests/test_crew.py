"""Threads that wait for connections together."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from api.crew import Crew


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SimpleNamespace(sock=ours), theirs


def eventually(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.001)
    return happened()


def test_served_once(pair: tuple[Any, socket.socket]) -> None:
    """A connection with something to read is served by one thread, and not again until it is watched anew."""
    connection, client = pair
    served: list[Any] = []
    crew = Crew(4, served.append)

    crew.watch(connection)
    client.sendall(b"a")
    client.sendall(b"b")

    assert eventually(lambda: served == [connection])
    assert len(crew) == 0
    crew.watch(connection)
    assert eventually(lambda: len(served) == 2)


def test_taken_connections_are_not_served(pair: tuple[Any, socket.socket]) -> None:
    """Whoever takes a connection has it alone, and only one can."""
    connection, client = pair
    served: list[Any] = []
    crew = Crew(4, served.append)
    crew.watch(connection)

    assert list(crew.watched()) == [connection]
    assert crew.take(connection)
    assert not crew.take(connection)
    client.sendall(b"a")

    assert not eventually_in(0.05, lambda: bool(served))


def eventually_in(seconds: float, happened: Callable[[], bool]) -> bool:
    time.sleep(seconds)
    return happened()


def test_as_many_threads_as_needed() -> None:
    """While all threads are busy another one is made, up to the bound; the rest waits its turn."""
    release, running = threading.Event(), threading.Semaphore(0)
    served: list[Any] = []

    def serve(connection: Any) -> None:
        running.release()
        release.wait(5)
        served.append(connection)

    crew = Crew(3, serve)
    pairs = [socket.socketpair() for _ in range(5)]
    for ours, theirs in pairs:
        crew.watch(SimpleNamespace(sock=ours))
        theirs.sendall(b"a")

    assert all(running.acquire(timeout=5) for _ in range(3))
    assert not running.acquire(timeout=0.05)
    release.set()
    assert eventually(lambda: len(served) == 5)
    for each in (end for both in pairs for end in both):
        each.close()


def test_a_failure_costs_no_thread(pair: tuple[Any, socket.socket], caplog: pytest.LogCaptureFixture) -> None:
    """What a connection raises is logged, and its thread goes on."""
    connection, client = pair
    served: list[Any] = []

    def serve(each: Any) -> None:
        served.append(each)
        if len(served) == 1:
            raise RuntimeError("broken")

    crew = Crew(1, serve)
    crew.watch(connection)
    client.sendall(b"a")
    assert eventually(lambda: "could not be served" in caplog.text)
    crew.watch(connection)
    assert eventually(lambda: len(served) == 2)
