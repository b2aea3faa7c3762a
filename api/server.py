"""How the API is served: gunicorn's threads, which get requests that have arrived, and deadlines for the arrival."""

from __future__ import annotations

import contextlib
import functools
import http
import json
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from gunicorn import util
from gunicorn.workers import gthread

from api.arrivals import Arrival, State
from api.handover import AT_STOP, HandedOver

#: How long a request's head, and then all of it, may take to arrive (s): 10 MB at 3 Mbit/s.
HEAD_SECONDS = 5.0
READ_SECONDS = 30.0
#: A body of which nothing comes for this long is given up (s), and so is a new connection that says nothing.
STALL_SECONDS = 10.0
FIRST_BYTE_SECONDS = 10.0
#: How often that is looked for (s).
SWEEP_SECONDS = 0.25
#: How much a process holds of requests that are still arriving; whoever goes beyond it is cut off.
MAX_GATHERED_BYTES = 64 << 20
RECEIVE_BYTES = 64 << 10
#: One thread in so many may be reading a long body.
LONG_SHARE = 4
#: How long gunicorn reads on after an answer to use the connection again (s); its own 5 s would hold a thread.
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
    """Threads that get requests when they are there; until then one loop gathers all that are on their way.

    So clients that stall hold memory, a little, and no thread. Long bodies, and those whose end cannot be seen from the
    head, are read by threads, of which they get a share: `long_at_once`. Connections that are handed over leave them.
    """

    deadline = ReadDeadline()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: dict[Any, Arrival] = {}
        self._gathered_bytes = 0
        self._swept = 0.0
        self._long: set[Any] = set()
        self._long_waiting: deque[Any] = deque()
        self._long_at_once = max(1, self.cfg.threads // LONG_SHARE)

    def enqueue_req(self, conn: Any) -> None:
        """Gather a connection's next request; the pool gets it when it is there. Runs in the loop's thread."""
        if self.cfg.is_ssl:  # gathering would need the handshake done; TLS is the proxy's
            super().enqueue_req(conn)
            return
        conn.init()
        conn.sock.setblocking(False)
        arrival = Arrival(conn.parser.unreader.take_buffered())
        self._arriving[conn] = arrival
        self._gathered_bytes += len(arrival.data)
        if arrival.data:
            self._pass_on(conn, arrival)
        else:
            self._receive(conn, conn.sock)
        if conn in self._arriving and conn not in self._long_waiting:  # most requests are there by now
            self.poller.register(conn.sock, selectors.EVENT_READ, functools.partial(self._receive, conn))

    def _receive(self, conn: Any, sock: socket.socket) -> None:
        arrival = self._arriving[conn]
        try:
            data = sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        if not data:  # a request cut short is for the parser to refuse
            self._start(conn) if arrival.data else self._drop(conn)
            return
        self._gathered_bytes += len(data)
        arrival.feed(data)
        if self._gathered_bytes > MAX_GATHERED_BYTES and arrival.state is not State.READY:
            self._drop(conn)
        else:
            self._pass_on(conn, arrival)

    def _pass_on(self, conn: Any, arrival: Arrival) -> None:
        if arrival.state is State.READY:
            self._start(conn)
        elif arrival.state is State.LONG:
            self._wait_for_share(conn)

    def _wait_for_share(self, conn: Any) -> None:
        if len(self._long) < self._long_at_once:
            self._long.add(conn)
            self._start(conn)
        else:
            self._stop_listening(conn)  # nothing more of it is read until there is a thread for it
            self._long_waiting.append(conn)

    def _start(self, conn: Any) -> None:
        """Give what was gathered to the pool."""
        arrival = self._forget(conn)
        conn.parser.unreader.unread(bytes(arrival.data))
        conn.data_ready = True
        super().enqueue_req(conn)

    def _drop(self, conn: Any) -> None:
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _forget(self, conn: Any) -> Arrival:
        arrival = self._arriving.pop(conn)
        self._gathered_bytes -= len(arrival.data)
        self._stop_listening(conn)
        return arrival

    def _stop_listening(self, conn: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """A thread is done with a connection; one that is elsewhere now still counts. Runs in the loop's thread."""
        self._long.discard(conn)
        if fs.cancelled() or fs.exception() or not isinstance(fs.result(), HandedOver):
            super().finish_request(conn, fs)
        while self._long_waiting and len(self._long) < self._long_at_once:
            waiting = self._long_waiting.popleft()
            if waiting in self._arriving:
                self._long.add(waiting)
                self._start(waiting)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop."""
        super().wait_for_and_dispatch_events(min(timeout, SWEEP_SECONDS) if self._arriving else timeout)

    def murder_pending(self) -> None:
        """End what took too long to arrive. The loop calls this at every turn."""
        now = time.monotonic()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for conn, arrival in list(self._arriving.items()):
            if not arrival.data and not self.alive:
                self._drop(conn)
            elif _is_late(arrival, now):
                self._give_up(conn, arrival)

    def _give_up(self, conn: Any, arrival: Arrival) -> None:
        if arrival.state is State.BODY:
            stop_receiving(conn.sock)  # the thread finds the end of the body, and says so
            self._start(conn)
        else:
            self._drop(conn)

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

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what would go on for long ends now."""
        for stop in AT_STOP:
            stop()
        super().handle_exit(sig, frame)

    def _closed_elsewhere(self) -> None:
        self.nr_conns -= 1


def _is_late(arrival: Arrival, now: float) -> bool:
    waits, is_silent_for = now - arrival.began, now - arrival.fed
    if not arrival.data:
        return waits > FIRST_BYTE_SECONDS
    if arrival.state is State.HEAD:
        return waits > HEAD_SECONDS
    return waits > READ_SECONDS or (arrival.state is State.BODY and is_silent_for > STALL_SECONDS)


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
