"""The threads that serve the API: gunicorn's own, with a deadline for the arrival of every request."""

from __future__ import annotations

import contextlib
import functools
import http
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from handover import AT_STOP, HandedOver

#: How long a request's head, and then all of it, may take to arrive (s): 10 MB at 3 Mbit/s.
HEAD_SECONDS = 5.0
READ_SECONDS = 30.0
#: A new connection without data is put aside after this long (s); gunicorn's own 5 s would hold a thread each time.
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.1


class ReadDeadline:
    """Ends the receiving side of connections whose request takes too long to arrive; one thread for all of them.

    gunicorn waits without limit for the rest of a request, and every wait holds a thread. A limit on the single read
    (app.py has one) does not help against a client that sends a byte now and then.
    """

    def __init__(self) -> None:
        """The thread is made with the first connection, in the forked process: one made before would not live there."""
        self._due: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None
        self._begin = threading.Lock()

    @contextlib.contextmanager
    def over(self, connection: socket.socket, seconds: float) -> Iterator[None]:
        """Watch `connection` for as long as the block runs."""
        with self._begin:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="read-deadline", daemon=True)
                self._thread.start()
        self.set(connection, seconds)
        try:
            yield
        finally:
            self._due.pop(connection, None)

    def set(self, connection: socket.socket, seconds: float) -> None:
        """Give a watched connection `seconds` from now."""
        self._due[connection] = time.monotonic() + seconds

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for connection, due in self._due.copy().items():
                if due < time.monotonic():
                    stop_receiving(connection)


def stop_receiving(connection: socket.socket) -> None:
    """Make every read on `connection` see its end; answers can still be sent."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


def is_shut(connection: socket.socket) -> bool:
    """True if nothing more is to be received on `connection`, by whoever's will."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


class ApiWorker(gthread.ThreadWorker):
    """Threads, with a deadline for the arrival of requests; connections that are handed over leave them."""

    deadline = ReadDeadline()

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection, or let go of it if its answer goes on elsewhere."""
        try:
            with self.deadline.over(conn.sock, HEAD_SECONDS):
                reusable = super().handle(conn)
        except HandedOver as handed:
            handed.take(conn.sock, functools.partial(self.method_queue.defer, self._closed_elsewhere))
            return handed
        if reusable is False:
            # gunicorn waits up to 2 s for the client to close, on the one thread that accepts all connections.
            stop_receiving(conn.sock)
        return reusable

    def _keepalive_after(self, conn: Any, keepalive: bool) -> Any:
        # Data that arrives after the receiving side was shut can be read all the same: a body that came late would be
        # taken for the next request.
        return super()._keepalive_after(conn, keepalive and not is_shut(conn.sock))

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Called by gunicorn's main loop after handle; a connection that is elsewhere still counts as one of ours."""
        if fs.cancelled() or fs.exception() or not isinstance(fs.result(), HandedOver):
            super().finish_request(conn, fs)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what would go on for long ends now."""
        for stop in AT_STOP:
            stop()
        super().handle_exit(sig, frame)

    def _closed_elsewhere(self) -> None:
        self.nr_conns -= 1


def head_arrived(worker: ApiWorker, request: Any) -> None:
    """Gunicorn's pre_request hook: now the body has its time."""
    worker.deadline.set(request.unreader.sock, READ_SECONDS)


def write_problem(connection: socket.socket, status: int, _reason: str, _detail: str) -> None:
    """Answer what gunicorn itself refuses in the form that app.py uses. Its detail may quote the request: left out."""
    code, title = http.HTTPStatus(status).name.lower(), http.HTTPStatus(status).phrase
    detail = f"{title}: this is not a request that HTTP/1.1 allows, or its head is too large."
    problem = {"type": f"urn:chef-workers:problem:{code}", "title": title, "status": status, "detail": detail}
    body = json.dumps({**problem, "error": detail, "message": detail, "code": code})
    head = f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    guard = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
    util.write_nonblock(connection, f"{head}{guard}Content-Length: {len(body)}\r\n\r\n{body}".encode())


util.write_error = write_problem  # there is no setting for it
