"""Requests on their way in: when a thread gets one."""

from __future__ import annotations

import pytest

from api.arrivals import MAX_BODY_BYTES, MAX_HEAD_BYTES, Arrival, State

HEAD = b"POST /api/jobs HTTP/1.1\r\nHost: x\r\n"

CASES = [
    (b"", State.HEAD),
    (b"GET / HTTP/1.1\r\n", State.HEAD),
    (b"GET / HTTP/1.1\r\n\r", State.HEAD),
    (b"GET / HTTP/1.1\r\n\r\n", State.READY),
    (b"GET / HTTP/1.1\n\n", State.HEAD),
    (HEAD + b"Content-Length: 3\r\n\r\n", State.BODY),
    (HEAD + b"Content-Length: 3\r\n\r\nab", State.BODY),
    (HEAD + b"Content-Length: 3\r\n\r\nabc", State.READY),
    (HEAD + b"CONTENT-length:\t3 \r\n\r\nabcd", State.READY),
    (HEAD + b"Content-Length: 0\r\n\r\n", State.READY),
    (HEAD + b"Content-Length: nonsense\r\n\r\n", State.READY),
    (HEAD + b"X-Content-Length: 3\r\n\r\n", State.READY),
    (HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), State.LONG),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", State.LONG),
    (HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", State.LONG),
    (b"a" * (MAX_HEAD_BYTES + 1), State.READY),
    (HEAD + b"A: " + b"b" * MAX_HEAD_BYTES, State.READY),
]


@pytest.mark.parametrize(("data", "state"), CASES, ids=lambda value: repr(value)[:50])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_states(data: bytes, state: State, step: int) -> None:
    """Whatever pieces a request comes in, it is ready when its head, and the body that this declares, are there."""
    if step == 1 and len(data) > 1_000:
        step = 1_000
    arrival = Arrival()
    for start in range(0, len(data), step):
        arrival.feed(data[start : start + step])

    assert (arrival.state, bytes(arrival.data)) == (state, data)


def test_what_came_with_the_request_before() -> None:
    """A request that came with the one before it needs no further bytes."""
    assert Arrival(b"GET / HTTP/1.1\r\n\r\n").state is State.READY
    assert Arrival(b"GET / HT").state is State.HEAD


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabcGET", (HEAD + b"Content-Length: 3\r\n\r\n", b"abc", b"GET")),
        (b"GET / HTTP/1.1\r\n\r\n", (b"GET / HTTP/1.1\r\n\r\n", b"", b"")),
        (HEAD + b"Content-Length: 3\r\n\r\nab", (HEAD + b"Content-Length: 3\r\n\r\nab", b"", b"")),
        (b"a" * (MAX_HEAD_BYTES + 1), (b"a" * (MAX_HEAD_BYTES + 1), b"", b"")),
    ],
    ids=["all and more", "no body", "cut short", "no end of a head"],
)
def test_parts(data: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    """What has arrived whole comes apart; of anything else all is for the parser."""
    assert Arrival(data).parts() == parts
