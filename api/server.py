"""How the API is served: gunicorn's parser and loop, threads of our own, and deadlines for what arrives."""

from __future__ import annotations

import contextlib
import functools
import http
import io
import json
import select
import socket
import threading
import time
from collections import deque
from email.utils import formatdate
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.workers import gthread

from api.arrivals import Arrival, State
from api.crew import Crew
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
RECEIVE_BYTES = 256 << 10
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

    def set(self, connection: socket.socket, seconds: float) -> None:
        """Give a connection `seconds` from now."""
        self._due[connection] = time.monotonic() + seconds
        if self._thread is None:
            self._start()

    def forget(self, connection: socket.socket) -> None:
        """Nothing more is to be read from this connection now."""
        self._due.pop(connection, None)

    def _start(self) -> None:
        with self._begin:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="read-deadline", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for connection, due in self._due.copy().items():
                if due < time.monotonic():
                    stop_receiving(connection)


class Settled:
    """gunicorn's settings as plain attributes: it looks each up by four calls, thirty times for each request."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        vars(self).update({name: getattr(cfg, name) for name in cfg.settings}, is_ssl=cfg.is_ssl)

    def __getattr__(self, name: str) -> Any:
        """What is no setting: methods, and what is worked out from several."""
        return getattr(self._cfg, name)


class Answer(wsgi.Response):
    """gunicorn's answer, whose head is sent together with the first part of its body."""

    _head = b""
    headers_sent: bool

    def send_headers(self) -> None:
        """Make the head ready."""
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self) -> None:
        """Send what is left: the head of an answer without a body, the end of one in chunks."""
        self.send_headers()
        if self.chunked or self._head:
            self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self.sock.sendall(head + data if head else data)


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
    """A crew of threads, each of which receives, parses, handles and answers requests by itself (see crew.py).

    Requests that are still arriving hold memory, a little, and no thread. Long bodies, and those whose end cannot be
    seen from the head, are read by threads, of which they get a share: `long_at_once`. Connections that are handed over
    leave them. gunicorn's own loop accepts connections, and ends what takes too long.
    """

    deadline = ReadDeadline()
    cfg: Any
    tpool: Crew

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cfg = Settled(self.cfg)
        self._swept = 0.0
        self._idle_until = float("inf")
        self._arriving = threading.Lock()
        self._gathered_bytes = 0
        self._long: set[Any] = set()
        self._long_waiting: deque[Any] = deque()
        self._long_at_once = max(1, self.cfg.threads // LONG_SHARE)

    def get_thread_pool(self) -> Crew:
        """The crew; gunicorn asks for it in the forked process."""
        if self.cfg.is_ssl:
            raise RuntimeError("TLS is the business of the proxy in front of this service.")
        return Crew(self.cfg.threads, self._receive)

    # --- arrival ------------------------------------------------------------------------------------------------------

    def enqueue_req(self, conn: Any) -> None:
        """Wait for the first request of a new connection. Runs in the loop's thread."""
        conn.init()
        conn.patience = FIRST_BYTE_SECONDS
        conn.arrival = Arrival()
        self.tpool.watch(conn)

    def _receive(self, conn: Any) -> None:
        """Something has come: serve the request if that was all of it, else wait for more."""
        arrival = conn.arrival
        self._let_go(arrival)
        conn.sock.setblocking(False)
        try:
            data = conn.sock.recv(RECEIVE_BYTES)
            while data and arrival.feed(data) is State.BODY:  # more may have come meanwhile
                data = conn.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._wait(conn)
            return
        except OSError:
            data, arrival = b"", Arrival()
        if data:
            self._pass_on(conn)
        elif arrival.data:  # a request cut short is for the parser to refuse
            self._serve(conn)
        else:
            self._close(conn)

    def _pass_on(self, conn: Any) -> None:
        """Serve what is complete, as many requests as came together."""
        while conn.arrival.state is State.READY:
            if not self._serve(conn):
                return
        if conn.arrival.state is State.LONG:
            self._serve_long(conn)
        else:
            self._wait(conn)

    def _wait(self, conn: Any) -> None:
        """Leave a connection to the crew until more comes, if there is memory for what did."""
        with self._arriving:
            conn.arrival.is_held = bool(conn.arrival.data)
            self._gathered_bytes += len(conn.arrival.data)
        if conn.arrival.data and self._gathered_bytes > MAX_GATHERED_BYTES:
            self._let_go(conn.arrival)
            self._close(conn)
        else:
            self.tpool.watch(conn)

    def _let_go(self, arrival: Arrival) -> None:
        """What arrived so far is with a thread now."""
        if arrival.is_held:
            with self._arriving:
                self._gathered_bytes -= len(arrival.data)
            arrival.is_held = False

    def _serve_long(self, conn: Any) -> None:
        """Serve a long body if it has a share, and then those who waited for one."""
        with self._arriving:
            if len(self._long) >= self._long_at_once:
                self._long_waiting.append(conn)  # nothing more of it is read until there is a thread for it
                return
            self._long.add(conn)
        while conn:
            goes_on = self._serve(conn)
            with self._arriving:
                self._long.discard(conn)
                following = self._long_waiting.popleft() if self._long_waiting else None
                if following:
                    self._long.add(following)
            if goes_on:
                self._pass_on(conn)
            conn = following

    # --- requests -----------------------------------------------------------------------------------------------------

    def _serve(self, conn: Any) -> bool:
        """Answer one request; True if the connection goes on, with what has arrived of its next one."""
        try:
            return self._answer(conn)
        except Exception:
            self.log.exception("a connection broke")
            self._close(conn)
            return False

    def _answer(self, conn: Any) -> bool:
        head, conn.body, conn.ahead = conn.arrival.parts()
        conn.parser.unreader.unread(head)
        conn.sock.setblocking(True)
        self.deadline.set(conn.sock, HEAD_SECONDS)
        try:
            reusable = self.handle(conn)
        except HandedOver as handed:
            self.tpool.forget(conn)
            handed.take(conn.sock, functools.partial(self.method_queue.defer, self._closed))
            return False
        finally:
            self.deadline.forget(conn.sock)
        if reusable:
            conn.patience = self.cfg.keepalive
            conn.arrival = Arrival(conn.parser.unreader.take_buffered() + conn.ahead)
            return True
        stop_receiving(conn.sock)  # gunicorn would wait up to 2 s for the client to close
        self._close(conn, graceful=True)
        return False

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Let the application answer; True if the connection can be used again. Whatever is raised ends it."""
        self._bring_body(req, conn)
        answer, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, Answer)
        environ["wsgi.multithread"] = True
        if not self.alive or len(self.tpool) >= self.max_keepalived:
            answer.force_close()
        blocks = self.wsgi(environ, answer.start_response)
        try:
            for block in blocks:
                answer.write(block)
            answer.close()
        except Exception:
            if not answer.headers_sent:
                raise
            self.log.exception("an answer broke off")  # a second one on the same connection would be nonsense
            return False
        finally:
            if hasattr(blocks, "close"):
                blocks.close()
        return not answer.should_close()

    def _bring_body(self, req: Any, conn: Any) -> None:
        """Let the application read the body: from memory if the parser agrees about what it is, else as it comes."""
        length = getattr(req.body.reader, "length", None)
        left = conn.parser.unreader.take_buffered()
        if not left and length == len(conn.body):
            self.deadline.forget(conn.sock)
            req.body = io.BytesIO(conn.body)
            return
        self.deadline.set(conn.sock, READ_SECONDS)
        conn.parser.unreader.unread(left + conn.body + conn.ahead)
        conn.ahead = b""

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        if keepalive and isinstance(conn.parser.mesg.body, io.BytesIO):
            return True
        # Data that arrives after the receiving side was shut can be read all the same: a body that came late would be
        # taken for the next request.
        return bool(super()._keepalive_after(conn, keepalive and not is_shut(conn.sock)))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _close(self, conn: Any, *, graceful: bool = False) -> None:
        conn.close(graceful=graceful)
        self.method_queue.defer(self._closed)

    def _closed(self) -> None:
        """Runs in the loop's thread."""
        self.nr_conns -= 1

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop."""
        super().wait_for_and_dispatch_events(min(timeout, SWEEP_SECONDS) if len(self.tpool) else timeout)

    def murder_pending(self) -> None:
        """End what takes too long to arrive, and idle connections. The loop calls this at every turn."""
        now = time.monotonic()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for conn in self.tpool.watched():
            if self._is_late(conn, now):
                self._give_up(conn)
        with self._arriving:
            late = [conn for conn in self._long_waiting if self._is_late(conn, now)]
            for conn in late:
                self._long_waiting.remove(conn)
        for conn in late:
            self._close(conn)

    def _is_late(self, conn: Any, now: float) -> bool:
        arrival = conn.arrival
        waits, is_silent_for = now - arrival.began, now - arrival.fed
        if not arrival.data:
            return bool(waits > conn.patience or now > self._idle_until)
        if arrival.state is State.HEAD:
            return bool(waits > HEAD_SECONDS)
        return bool(waits > READ_SECONDS or (arrival.state is State.BODY and is_silent_for > STALL_SECONDS))

    def _give_up(self, conn: Any) -> None:
        if conn.arrival.state is State.BODY:
            stop_receiving(conn.sock)  # a thread is told, finds the end of the body, and says so
        elif self.tpool.take(conn):
            self._let_go(conn.arrival)
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        self._idle_until = deadline

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: what would go on for long ends now."""
        for stop in AT_STOP:
            stop()
        super().handle_exit(sig, frame)


def write_problem(connection: socket.socket, status: int, _reason: str, _detail: str) -> None:
    """Answer what gunicorn itself refuses in the form that app.py uses. Its detail may quote the request: left out."""
    code, title = http.HTTPStatus(status).name.lower(), http.HTTPStatus(status).phrase
    detail = f"{title}: this is not a request that HTTP/1.1 allows, or its head is too large."
    problem = {"type": f"urn:chef-workers:problem:{code}", "title": title, "status": status, "detail": detail}
    body = json.dumps({**problem, "error": detail, "message": detail, "code": code})
    head = f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    guard = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
    util.write_nonblock(connection, f"{head}{guard}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def date_now() -> str:
    """This moment as the header Date has it."""
    return _date_of(int(time.time()))


@functools.lru_cache(maxsize=2)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


# There are no settings for these.
util.write_error = write_problem
util.http_date = date_now
