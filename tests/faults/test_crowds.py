"""Crowds: hundreds of clients that stall, trickle or flood, and what everybody else notices of them."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from artifacts import Shelf
from store import Store
from tests.api_cases import finish, key_of
from tests.server_cases import Server, running_server
from tests.store_cases import claimed

pytestmark = pytest.mark.faults

SUBMISSION = json.dumps({"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}).encode()
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WATCHED_S = 5.0
PATIENCE_S = 0.5

Ask = tuple[str, str, bytes | None, dict[str, str], int]
HEALTH: Ask = ("GET", "/api/health", None, {}, 200)

#: How far a client of each kind gets before it stops.
STALLED = {
    "head": HEAD,
    "first line": b"POST /api",
    "body": HEAD + b"Content-Length: 60\r\n\r\n{",
    "long body": HEAD + b"Content-Length: 90000\r\n\r\n" + b" " * 70_000,
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "continue": HEAD + b"Expect: 100-continue\r\nContent-Length: 60\r\n\r\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(RATE_LIMIT_KEY="60", MAX_BODY_BYTES="1m") as started:
        yield started


@contextlib.contextmanager
def background(work: Callable[[], None]) -> Iterator[None]:
    """`work` again and again on a thread of its own while the block runs."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def p99(server: Server, *asks: Ask) -> float:
    """The 99th percentile of what these requests take (s), asked in turn for WATCHED_S; each must have its status."""
    took = []
    began = time.monotonic()
    for method, path, body, headers, status in itertools.cycle(asks):
        answer = server.ask(method, path, body, headers)
        assert answer.status == status, answer.body
        took.append(answer.seconds)
        if time.monotonic() - began > WATCHED_S:
            return statistics.quantiles(took, n=100)[98]
        time.sleep(0.01)
    raise AssertionError("nothing was asked")


@pytest.mark.parametrize("kind", STALLED)
def test_stalled_clients(server: Server, kind: str) -> None:
    """Two hundred clients that stop in the middle of a request, all at the same place, keep nobody waiting."""
    with contextlib.ExitStack() as crowd:
        for _ in range(200):
            crowd.enter_context(server.connect()).sendall(STALLED[kind])

        slow = p99(server, HEALTH)

    print(f"{kind}: health p99 {slow * 1000:.0f} ms")
    assert slow <= PATIENCE_S


def test_trickling_clients(server: Server) -> None:
    """A hundred clients that send a byte now and then, for ever, keep nobody waiting."""
    with contextlib.ExitStack() as crowd:
        sockets = [crowd.enter_context(server.connect()) for _ in range(100)]
        for number, each in enumerate(sockets):
            each.sendall(list(STALLED.values())[number % len(STALLED)])

        def trickle() -> None:
            for each in sockets:
                with contextlib.suppress(OSError):
                    each.send(b" ")
            time.sleep(0.1)

        with background(trickle):
            slow = p99(server, HEALTH)

    print(f"health p99 {slow * 1000:.0f} ms")
    assert slow <= PATIENCE_S


def test_slow_readers(server: Server) -> None:
    """A hundred clients that ask for a large file and do not read it keep nobody waiting; the last ones are told so."""
    store, shelf = Store(server.redis_url), Shelf(server.folder / "data")
    job = finish(store, shelf, claimed(store), {"large.bin": bytes(20 << 20)})
    ask = f"GET /api/jobs/{job.id}/artifacts/large.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with contextlib.ExitStack() as crowd:
        readers = []
        for _ in range(100):
            reader = crowd.enter_context(server.connect())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(ask)
            readers.append(reader)

        slow = p99(server, HEALTH)
        first_lines = [reader.recv(12) for reader in readers]
    store.close()

    print(f"health p99 {slow * 1000:.0f} ms")
    assert slow <= PATIENCE_S
    assert set(first_lines) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}


def flood(server: Server, headers: dict[str, str], over: threading.Event) -> list[str | None]:
    """Submit as fast as can be until it is over. What refusals said: when to come back, or what else they were."""
    refused: list[str | None] = []
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    while not over.is_set():
        connection.request("POST", "/api/jobs", SUBMISSION, {**JSON, **headers})
        answer = connection.getresponse()
        code = json.loads(answer.read()).get("code")
        if code:
            refused.append(answer.headers["Retry-After"] if code == "rate_limited" else code)
    connection.close()
    return refused


def test_flood(server: Server) -> None:
    """A key that floods is refused with a moment to come back; others, and the health, are answered as before."""
    with contextlib.closing(Store(server.redis_url)) as store, ThreadPoolExecutor(8) as pool:
        flooding, over = key_of(store, "flood"), threading.Event()
        calm: list[Ask] = [("GET", "/api/stats", None, key_of(store, "calm"), 200) for _ in range(20)]
        floods = [pool.submit(flood, server, flooding, over) for _ in range(8)]
        try:
            slow = max(p99(server, HEALTH), p99(server, *calm))
        finally:
            over.set()
        refused = [each for done in floods for each in done.result()]
        taken = store.tenant_figures("flood")[1]["added"]

    print(f"p99 {slow * 1000:.0f} ms beside {len(refused):,} refused requests; {taken} were taken")
    assert slow <= PATIENCE_S
    assert len(refused) > 200
    assert set(refused) == {"1"}
    assert taken <= 60 + 2 * WATCHED_S + 10
