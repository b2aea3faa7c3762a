"""Threads that wait for connections together: whichever is free takes the next one that has something to read."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

log = logging.getLogger(__name__)

#: A connection that has been reported is not reported again until it is watched anew.
_ONCE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT


class Connection(Protocol):
    """What the crew knows of a connection."""

    sock: socket.socket


class Crew:
    """Up to `size` threads, made on demand. The kernel wakes one of them for each connection that can be read.

    So a request is received, handled and answered by one thread, and nothing is handed from thread to thread: each
    hand-over would cost a wake-up and a fight for Python's lock, together more than handling a request does.

    A connection belongs to the crew while it is watched, and to whoever took it afterwards; nobody else touches it.
    """

    def __init__(self, size: int, serve: Callable[[Connection], None]) -> None:
        """`serve` gets each connection that can be read, taken; it runs in many threads at once."""
        self._size = size
        self._serve = serve
        self._epoll = select.epoll()
        self._watched: dict[int, Connection] = {}
        self._made = self._idle = 0
        self._counting = threading.Lock()
        self._add_thread()

    def watch(self, connection: Connection) -> None:
        """From now on the connection is the crew's. It must not be touched any more, not even by the caller."""
        number = connection.sock.fileno()
        self._watched[number] = connection
        try:
            self._epoll.modify(number, _ONCE)
        except FileNotFoundError:
            # An old report of the same number may make another thread look at the connection, and be faster here.
            with contextlib.suppress(FileExistsError):
                self._epoll.register(number, _ONCE)

    def take(self, connection: Connection) -> bool:
        """Take a connection away from the crew; False if somebody was faster."""
        number = connection.sock.fileno()
        return self._watched.get(number) is connection and self._watched.pop(number, None) is connection

    def watched(self) -> Iterable[Connection]:
        """All connections that are watched at this moment."""
        return list(self._watched.values())

    def __len__(self) -> int:
        """How many connections are watched."""
        return len(self._watched)

    def shutdown(self, wait: bool = True) -> None:
        """As gunicorn asks its pool to end: the threads end with the process, nobody waits for them."""

    def forget(self, connection: Connection) -> None:
        """Stop reporting a connection that was taken and goes on elsewhere."""
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(connection.sock.fileno())

    def _add_thread(self) -> None:
        self._made += 1
        self._idle += 1
        threading.Thread(target=self._work, name=f"crew-{self._made}", daemon=True).start()

    def _work(self) -> None:
        while True:
            for number, _ in self._epoll.poll(maxevents=1):
                if connection := self._watched.pop(number, None):
                    self._busy()
                    try:
                        self._serve(connection)
                    except Exception:
                        log.exception("a connection could not be served")
                    self._free()

    def _busy(self) -> None:
        """Count this thread out; if it was the last one that waited, another one waits in its place."""
        with self._counting:
            self._idle -= 1
            if self._idle == 0 and self._made < self._size:
                self._add_thread()

    def _free(self) -> None:
        with self._counting:
            self._idle += 1
