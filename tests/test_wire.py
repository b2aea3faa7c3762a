"""HTTP mechanics on bare WSGI: bodies with a limit, and the media types of files."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize, NoMoreData

from api.wire import (
    BLOCK_BYTES,
    BodyBroken,
    BodyIncomplete,
    BodyTooLarge,
    attachment,
    content_type,
    forget_unread_body,
    read_body,
)


class Stream(io.BytesIO):
    """A body that fails with `error` once its bytes are read."""

    def __init__(self, content: bytes = b"", error: Exception | None = None) -> None:
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if not content and self._error:
            raise self._error
        return content


class Connection:
    """Remembers whether its receiving side was ended."""

    ended = False

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)

    def shutdown(self, _side: int) -> None:
        self.ended = True


def posted(content: bytes, error: Exception | None = None, **environ: Any) -> dict[str, Any]:
    return {"wsgi.input": Stream(content, error), "gunicorn.socket": Connection(), **environ}


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 200_000])
def test_whole_body(size: int) -> None:
    """A body within the limit is read whole, whether its length is told before or not."""
    content = bytes(range(256)) * 1_000

    told = read_body(posted(content, CONTENT_LENGTH=str(size)), 200_000)
    chunked = read_body(posted(content[:size], HTTP_TRANSFER_ENCODING="chunked"), 200_000)

    assert told == chunked == content[:size]


def test_no_body() -> None:
    """A request that announces no body has an empty one; what else is on the connection is not read."""
    assert read_body(posted(b"GET / HTTP/1.1"), 10) == b""


def test_announced_length_above_the_limit() -> None:
    """A body that says it is too long is refused unread."""
    environ = posted(b"x" * 100, CONTENT_LENGTH="100")

    with pytest.raises(BodyTooLarge, match="has 100 bytes; at most 99"):
        read_body(environ, 99)

    assert environ["wsgi.input"].tell() == 0


def test_chunks_above_the_limit() -> None:
    """An endless chunked body is read one byte beyond the limit, no further."""
    environ = posted(b"x" * 1_000_000, HTTP_TRANSFER_ENCODING="chunked")

    with pytest.raises(BodyTooLarge, match="more than 99 bytes"):
        read_body(environ, 99)

    assert environ["wsgi.input"].tell() == 100


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 40, "\xb2", " 1", "+1"])
def test_nonsense_lengths(length: str) -> None:
    """A Content-Length that is no number is refused."""
    with pytest.raises(BodyBroken):
        read_body(posted(b"{}", CONTENT_LENGTH=length), 99)


def test_short_body() -> None:
    """A body that ends before its announced length is incomplete."""
    with pytest.raises(BodyIncomplete, match="after 2 of 9 bytes"):
        read_body(posted(b"{}", CONTENT_LENGTH="9"), 99)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), BodyIncomplete),
        (NoMoreData(), BodyIncomplete),
        (ConnectionResetError(), BodyIncomplete),
        (InvalidChunkSize(b"zz"), BodyBroken),
    ],
)
def test_failing_bodies(error: Exception, expected: type[Exception]) -> None:
    """A stalled or cut connection makes the body incomplete, wrong chunks make it broken."""
    with pytest.raises(expected):
        read_body(posted(b"{", error, HTTP_TRANSFER_ENCODING="chunked"), 99)


@pytest.mark.parametrize(
    ("length", "read", "ended"),
    [
        ("5", False, False),
        ("6", False, True),
        ("x", False, True),
        ("300000", False, True),
        ("5", True, False),
        ("0", False, False),
        ("", False, False),
    ],
)
def test_unread_bodies_are_forgotten(length: str, read: bool, ended: bool) -> None:
    """The connection stops receiving exactly if a body was sent, nobody read it, and it is not there as a whole."""
    environ = posted(b"hello", CONTENT_LENGTH=length)
    if read:
        read_body(environ, 99)

    forget_unread_body(environ)

    assert environ["gunicorn.socket"].ended is ended


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("a/b.JS", "text/javascript; charset=utf-8"),
        ("x.svg", "image/svg+xml"),
        ("x.html.exe", "application/octet-stream"),
        ("html", "application/octet-stream"),
        (".css", "application/octet-stream"),
    ],
)
def test_content_types(path: str, media_type: str) -> None:
    """The last extension decides; unknown ones are bytes."""
    assert content_type(path) == media_type


@pytest.mark.parametrize("name", ['"', "\\", "\r\n", "ü", "%41", "\x7f"])
def test_attachment_names(name: str) -> None:
    """The plain form of a download's name holds printable ASCII without quotes; the other form is percent-encoded."""
    value = attachment(f"folder/a{name}b")

    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2
    assert "folder" not in value
