"""The API as gunicorn serves it, over real sockets and a Redis that goes away: hostile, slow and unlucky clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest
import requests

from api.server import ReadDeadline
from tests.api_cases import UNKNOWN
from tests.server_cases import Answer, Server, answer_of, receive, running_server, until_healthy
from tests.serving import IO_SECONDS

SUBMISSION = json.dumps({"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}).encode()
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIMIT = 100 << 10


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_chunked_body(server: Server) -> None:
    """A body in chunks is taken like any other."""
    pieces = [SUBMISSION[:10], SUBMISSION[10:11], SUBMISSION[11:]]

    answer = server.ask("POST", "/api/jobs", iter(pieces), JSON)

    assert answer.status == 201
    assert server.ask("GET", answer.headers["Location"]).json["status"] == "pending"


def test_kept_connection(server: Server) -> None:
    """One connection serves many requests, good and bad ones, as long as their bodies are read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    statuses = []
    for body in (SUBMISSION, b"{", SUBMISSION):
        connection.request("POST", "/api/jobs", body, JSON)
        first_socket = connection.sock
        statuses.append(answer_of(connection.getresponse(), 0).status)
        assert connection.sock is first_socket
    connection.close()

    assert statuses == [201, 400, 201]


def test_endless_chunks(server: Server) -> None:
    """A chunked body that goes on beyond the limit is 413, and is not read to its end."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    answer = server.send(head + chunk * 2)

    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.seconds < 0.5


def test_announced_giant(server: Server) -> None:
    """A body of 100 MB is refused from its Content-Length, at once, without a byte of it."""
    answer = server.send(HEAD + b"Content-Length: 104857600\r\n\r\n")

    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.seconds < 0.5


def test_sent_giant(server: Server) -> None:
    """A client that begins to send too large a body all the same can read why it is refused; nothing else follows."""
    with server.connect() as connection:
        began = time.monotonic()
        connection.sendall(HEAD + b"Content-Length: 104857600\r\n\r\n" + b" " * 10_000)

        answer = receive(connection, began)

        assert answer.status == 413
        assert answer.seconds < 0.5
        assert is_closed(connection)


def test_giant_of_a_plain_client(server: Server) -> None:
    """A client that sends all of a large body before it listens is answered too, and does not hang."""
    for _ in range(5):
        began = time.monotonic()
        url = f"http://127.0.0.1:{server.port}/api/jobs"
        answer = requests.post(url, data=b" " * (16 << 20), headers=JSON, timeout=8)

        assert answer.status_code == 413
        assert time.monotonic() - began < 4


def test_broken_chunks(server: Server) -> None:
    """Chunks that are not what HTTP says are a 400 problem."""
    answer = server.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")

    assert (answer.status, answer.json["code"]) == (400, "body_broken")


@pytest.mark.parametrize("framing", [b"Content-Length: 60\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n3c\r\n{"])
def test_stalled_body(server: Server, framing: bytes) -> None:
    """A body that stops arriving is answered with 408 after the wait for one read, and its connection is closed."""
    with server.connect() as connection:
        began = time.monotonic()
        connection.sendall(HEAD + framing)

        answer = receive(connection, began)

        assert (answer.status, answer.json["code"]) == (408, "body_incomplete")
        assert IO_SECONDS <= answer.seconds < IO_SECONDS + 0.5
        assert is_closed(connection)


def test_expected_continue(server: Server) -> None:
    """A client that asks whether to go on is told to, and its body is taken."""
    with server.connect() as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SUBMISSION))
        interim = connection.recv(100)
        connection.sendall(SUBMISSION)

        answer = receive(connection, 0)

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.status == 201


def test_unread_body_is_no_request(server: Server) -> None:
    """What follows a refused request as its body is never taken for the next request."""
    smuggled = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)

        answer = receive(connection, 0)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        following = receive(connection, 0)

        assert answer.status == 404
        assert following.json["service"] == "Chef Workers"
        assert is_closed(connection)


def test_late_body_is_no_request(server: Server) -> None:
    """Nor when it comes only after the answer."""
    smuggled = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(smuggled))
            answer = receive(connection, 0)
            with contextlib.suppress(ConnectionError):
                connection.sendall(smuggled)

            assert answer.status == 404
            assert is_closed(connection)


def is_closed(connection: socket.socket) -> bool:
    """True once the server has closed; anything that it sends before fails the test."""
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    return True


# --- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +7\r\n\r\n", 400),
        (b"<script>\r\n\r\n", 400),
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 10_000 + b"\r\n\r\n", 431),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_refused_heads(server: Server, request_head: bytes, status: int) -> None:
    """What is refused before it reaches a route is a problem in JSON as well, and quotes nothing."""
    answer = server.send(request_head)

    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["error"] == answer.json["message"]
    assert b"<" not in answer.body
    assert b"Bad Header" not in answer.body


# --- slow clients -----------------------------------------------------------------------------------------------------


def test_silent_connections(server: Server) -> None:
    """Two hundred connections that say nothing keep nobody else waiting."""
    with contextlib.ExitStack() as crowd:
        for _ in range(200):
            crowd.enter_context(server.connect())

        slowest = max(server.ask("GET", "/api/health").seconds for _ in range(20))

    assert slowest < 0.5


def test_stalled_crowd(server: Server) -> None:
    """Fifty requests that stop in their middle, half in the head and half in the body, keep nobody waiting."""
    with contextlib.ExitStack() as crowd:
        for number in range(50):  # fewer than one process has threads
            stalled = crowd.enter_context(server.connect())
            stalled.sendall(HEAD if number % 2 else HEAD + b"Content-Length: 60\r\n\r\n{")

        slowest = max(server.ask("GET", "/api/health").seconds for _ in range(20))

    assert slowest < 0.5


def test_read_deadline() -> None:
    """A connection whose request is not complete in time sees its end; others, and those that are done, do not."""
    deadline = ReadDeadline()
    ours, theirs = socket.socketpair()
    done, other = socket.socketpair()
    ours.settimeout(5)
    done.settimeout(0.05)

    with ours, theirs, done, other:
        deadline.set(done, 0.01)
        deadline.forget(done)
        deadline.set(ours, 0.01)
        assert ours.recv(1) == b""
        with pytest.raises(TimeoutError):
            done.recv(1)


# --- Redis ------------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/api/health", None),
    ("GET", "/api/stats", None),
    ("POST", "/api/jobs", SUBMISSION),
    ("GET", f"/api/jobs/{UNKNOWN}", None),
    ("GET", f"/api/jobs/{UNKNOWN}/logs", None),
    ("GET", f"/api/jobs/{UNKNOWN}/artifacts", None),
    ("GET", f"/api/jobs/{UNKNOWN}/artifacts/a", None),
    ("GET", f"/api/jobs/{UNKNOWN}/artifacts.tar.gz", None),
]


def ask_all(server: Server) -> list[Answer]:
    return [server.ask(method, path, body, JSON if body else {}) for method, path, body in ROUTES]


def assert_all_unavailable(given: list[Answer]) -> None:
    assert [answer.status for answer in given] == [503] * len(ROUTES)
    assert all(answer.headers["Retry-After"] for answer in given)
    assert max(answer.seconds for answer in given) < 1


def test_redis_down(server: Server) -> None:
    """Without Redis every route answers 503 within a second, and works by itself once Redis is back."""
    location = server.ask("POST", "/api/jobs", SUBMISSION, JSON).headers["Location"]
    server.stop_redis()
    try:
        given = ask_all(server)
    finally:
        server.start_redis()
    until_healthy(server)

    assert_all_unavailable(given)
    assert server.ask("GET", location).json["status"] == "pending"
    assert server.ask("POST", "/api/jobs", SUBMISSION, JSON).status == 201


def test_redis_frozen(server: Server) -> None:
    """A Redis that takes connections and never answers is the same as none."""
    assert server.redis_process
    server.redis_process.send_signal(signal.SIGSTOP)
    try:
        given = ask_all(server)
    finally:
        server.redis_process.send_signal(signal.SIGCONT)
    until_healthy(server)

    assert_all_unavailable(given)


# --- life -------------------------------------------------------------------------------------------------------------


def test_request_lines_in_the_log(server: Server) -> None:
    """The server's log has a line for each request, with what was asked and answered."""
    server.ask("GET", "/nowhere", headers={"X-Request-Id": "seen-in-log"})

    lines = (server.folder / "gunicorn.log").read_text().splitlines()
    (line,) = (line for line in lines if "seen-in-log" in line)
    event = json.loads(line)
    assert (event["method"], event["path"], event["status"]) == ("GET", "/nowhere", 404)
