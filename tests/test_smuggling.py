"""Requests that two servers could read in two ways: one is refused, or means one thing, and nothing hides in it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from store import Store
from tests.api_cases import key_of
from tests.server_cases import Server, running_server

SUBMISSION = json.dumps({"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}).encode()
JSON = {"Content-Type": "application/json"}
HEAD = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


def exchanged(server: Server, sent: bytes) -> bytes:
    """All that comes back for these bytes, until the server closes or falls silent."""
    with server.connect() as connection:
        connection.sendall(sent)
        connection.settimeout(1.5)
        received = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                received += data
    return received


def statuses_in(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[0-9] ([0-9]{3}) ", received)]


AMBIGUOUS = {
    "length twice": POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + HIDDEN,
    "length twice, the same": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "length as a list": POST + b"Content-Length: 2, 2\r\n\r\n{}" + HIDDEN,
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    "signed length": POST + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
    "negative length": POST + b"Content-Length: -2\r\n\r\n{}" + HIDDEN,
    "hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
    "other digits": POST + "Content-Length: ²\r\n\r\n{}".encode() + HIDDEN,
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "folded value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n" + HIDDEN,
    "line feed in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nContent-Length: 60\r\n\r\n" + HIDDEN,
    "carriage return in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 60\r\n\r\n" + HIDDEN,
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n" + HIDDEN,
    "huge chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n{}" + HIDDEN,
    "signed chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "chunk too long": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "version": b"GET / HTTP/2.9\r\nHost: x\r\n\r\n" + HIDDEN,
    "no version": b"GET /\r\n\r\n" + HIDDEN,
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: evil.example.com\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_requests(server: Server, kind: str) -> None:
    """It is refused with one answer, nothing is stored, and what follows in its body is never served."""
    before = server.ask("GET", "/api/stats").json["counters"].get("added", 0)
    received = exchanged(server, AMBIGUOUS[kind])
    statuses = statuses_in(received)

    assert not received or statuses[0] in {400, 408, 413, 421, 431, 501, 505}, received
    assert statuses[1:] in ([], [404]), received
    if statuses[1:]:  # the first one was complete, and refused for what it means; the second is a request of its own
        assert kind == "two hosts"
    assert server.ask("GET", "/api/stats").json["counters"].get("added", 0) == before


def test_bare_line_feeds_are_no_requests(server: Server) -> None:
    """Lines that end with a line feed alone do not end a head."""
    assert b"200 OK" not in exchanged(server, b"GET / HTTP/1.1\nHost: x\n\n")


def test_one_answer_for_each_request(server: Server) -> None:
    """Requests that come together are answered in order, one each, bodies kept apart."""
    post = HEAD + b"Content-Length: %d\r\n\r\n" % len(SUBMISSION) + SUBMISSION
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SUBMISSION) + SUBMISSION + b"\r\n0\r\n\r\n"
    bad = HEAD + b"Content-Length: 1\r\n\r\n{"
    received = exchanged(server, post + chunked + bad + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + post)
    statuses = statuses_in(received)

    assert statuses == [201, 201, 400, 200, 201]


def test_giant_header(server: Server) -> None:
    """A header of 10 MB is refused without being read to its end."""
    received = exchanged_in_pieces(server, b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"b" * 65_536, 160)

    assert not received or received.split()[1] == b"431"


def exchanged_in_pieces(server: Server, first: bytes, piece: bytes, number: int) -> bytes:
    with server.connect() as connection:
        connection.sendall(first)
        with contextlib.suppress(OSError):
            for _ in range(number):
                connection.sendall(piece)
        with contextlib.suppress(OSError):
            return connection.recv(65_536)
    return b""


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "{{7*7}}", "%(x)s",
           "{0.__class__}", "$(id)", "`id`", "\x1b[2J\x1b]8;;http://evil\x07x", "\u202egnp.exe", "' OR 1"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts(server: Server, text: str) -> None:
    """Markup, templates and control codes in any field come back as data: JSON that no browser takes for a page."""
    job: dict[str, Any] = {
        "type": "build", "metadata": {"name": text}, "data": {"chatId": text.translate({27: None, 7: None}),
        "projectFiles": {"a.txt": text}, "command": text.replace("\x00", ""), "env": {"A": text}},
    }  # fmt: skip
    made = server.ask("POST", "/api/jobs", json.dumps(job).encode(), JSON)
    assert made.status == 201
    record = server.ask("GET", made.headers["Location"])

    assert record.json["metadata"] == {"name": text}
    assert record.headers["Content-Type"] == "application/json"
    assert record.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in record.headers["Content-Security-Policy"]
    assert text not in json.dumps({**record.json, "metadata": {}, "chatId": ""})
    unknown = server.ask("POST", "/api/jobs", json.dumps({"type": text, text: 1}).encode(), JSON)
    assert unknown.headers["Content-Type"] == "application/problem+json"
    assert unknown.status == 400


def test_keys_in_addresses_open_nothing(server: Server) -> None:
    """A key is taken from its header alone: addresses end up in logs."""
    store = Store(server.redis_url)
    token = key_of(store, "acme")["Authorization"].removeprefix("Bearer ")
    stranger = {"X-Forwarded-For": "203.0.113.1"}
    queries = [f"key={token}", f"access_token={token}", f"Authorization=Bearer%20{token}"]
    statuses = [server.ask("GET", f"/api/stats?{query}", headers=stranger).status for query in queries]
    with_cookie = server.ask("GET", "/api/stats", headers={"Cookie": f"key={token}", **stranger})
    store._redis.flushall()
    store.close()

    assert statuses == [401, 401, 401]
    assert with_cookie.status == 401
    assert token[-64:] not in json.dumps(with_cookie.headers)
