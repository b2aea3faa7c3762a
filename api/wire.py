"""HTTP mechanics on bare WSGI, without a word about jobs: bodies with limits, entity tags, ranges, safe downloads."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from gunicorn.http.errors import NoMoreData, ParseException

from api.arrivals import MAX_BODY_BYTES
from errors import ChefError

BLOCK_BYTES = 64 << 10
_BODY_READ = "chef.body_read"

#: On every answer. Nothing that is served here may run in a browser, be framed, guessed at, or kept by a cache.
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class BodyTooLarge(ChefError):
    """The body is, or says it is, longer than what is accepted."""

    code = "body_too_large"


class BodyIncomplete(ChefError):
    """The body stalled, or ended before its time."""

    code = "body_incomplete"


class BodyBroken(ChefError):
    """The body's chunks are not what HTTP says they are."""

    code = "body_broken"


class UnsupportedMediaType(ChefError):
    """The body says that it is something other than plain JSON."""

    code = "unsupported_media_type"


class RangeUnsatisfiable(ChefError):
    """The range lies beyond the end of the file; `size` is the file's length in bytes."""

    code = "range_unsatisfiable"

    def __init__(self, size: int) -> None:
        """Say how long the file is."""
        self.size = size
        super().__init__(f"The range lies outside this file of {size:,} bytes.")


# --- requests ---------------------------------------------------------------------------------------------------------


def request_id(environ: dict[str, Any]) -> str:
    """The caller's X-Request-Id if it is harmless (up to 64 letters, digits, `.`, `_`, `-`), else a new one."""
    given: str = environ.get("HTTP_X_REQUEST_ID", "")
    return given if given and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", given) else os.urandom(8).hex()


def bound_waits(environ: dict[str, Any], seconds: float) -> None:
    """Let no single read or write on this connection wait longer: a stalled client must not hold a thread for ever."""
    if connection := environ.get("gunicorn.socket"):
        connection.settimeout(seconds)


def require_json(environ: dict[str, Any]) -> None:
    """Check that the body says it is JSON.

    Without any Content-Type it may be, unless a browser sends it from a page: a form on a strange site must not be
    able to submit jobs.

    Raises:
        UnsupportedMediaType: It says something else.
    """
    plain, named, silent = _said(environ.get("CONTENT_TYPE", ""))
    if not (plain and (named or (silent and "HTTP_ORIGIN" not in environ))):
        raise UnsupportedMediaType("The body must be JSON: send the header Content-Type: application/json.")
    require_plain(environ)


@functools.lru_cache(maxsize=100)
def _said(content_type: str) -> tuple[bool, bool, bool]:
    """Whether the body is in UTF-8 as far as this says, whether it is said to be JSON, and whether nothing is said."""
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    plain = parameters in ([], ["charset=utf-8"], ['charset="utf-8"'])
    named = media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
    return plain, named, not media_type


def require_plain(environ: dict[str, Any]) -> None:
    """Check that no compression lies around the body. Raises UnsupportedMediaType."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed: send it without Content-Encoding.")


def is_form(environ: dict[str, Any]) -> bool:
    """True if the body says that it is a form with files."""
    return str(environ.get("CONTENT_TYPE", "")).lower().startswith("multipart/form-data")


def require_own_page(environ: dict[str, Any]) -> None:
    """Check that a form was not sent by a browser from a page of somebody else's, which needs nobody's consent.

    Raises:
        UnsupportedMediaType: It was, as far as the browser says.
    """
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST", ""):
        raise UnsupportedMediaType("A form from a page of another origin is not taken; send JSON instead.")


def read_body(environ: dict[str, Any], limit: int) -> bytes:
    """The whole body, at most `limit` bytes. A longer one is not read, or no further than that.

    Raises:
        BodyTooLarge, BodyIncomplete, BodyBroken: As their names say; nothing more will be read from this client.
    """
    return b"".join(body_blocks(environ, limit))


def body_blocks(environ: dict[str, Any], limit: int) -> Iterator[bytes]:
    """The same in blocks, as it arrives. Raises as read_body()."""
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    declared = limit + 1 if chunked else _content_length(environ)
    if not chunked and declared > limit:
        raise BodyTooLarge(f"The body has {declared:,} bytes; at most {limit:,} are accepted.")
    read = 0
    for block in _read(environ["wsgi.input"], declared):
        read += len(block)
        if read > limit:
            raise BodyTooLarge(f"The body has more than {limit:,} bytes; no more are accepted.")
        yield block
    if not chunked and read < declared:
        raise BodyIncomplete(f"The body ended after {read:,} of {declared:,} bytes.")
    environ[_BODY_READ] = True


def _content_length(environ: dict[str, Any]) -> int:
    declared: str = environ.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch(r"[0-9]{1,18}", declared):
        raise BodyBroken("Content-Length must be a number of bytes.")
    return int(declared)


def _read(stream: BinaryIO, wanted: int) -> Iterator[bytes]:
    while wanted > 0 and (block := _block(stream, wanted)):
        wanted -= len(block)
        yield block


def _block(stream: BinaryIO, wanted: int) -> bytes:
    try:
        return stream.read(min(wanted, BLOCK_BYTES))
    except ParseException:
        raise BodyBroken("The body's chunks are malformed.") from None
    except (TimeoutError, NoMoreData, OSError):
        raise BodyIncomplete("The body did not arrive in time.") from None


#: struct linger of Linux: on, with no time.
_RESET = struct.pack("ii", 1, 0)


def forget_unread_body(environ: dict[str, Any]) -> None:
    """End the receiving side of the connection if a body was sent and not read to its end.

    Without this, gunicorn goes on reading it after the answer, on this thread, to use the connection again. A body that
    has arrived already (see arrivals.py) is read away: a refused request is no reason to connect anew.
    """
    has_body = environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ
    connection = environ.get("gunicorn.socket")
    if not (connection and has_body) or environ.get(_BODY_READ):
        return
    if not _is_read_away(environ):
        with contextlib.suppress(OSError):
            # Closed with a reset: else a client that goes on sending waits for room that is never made.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.shutdown(socket.SHUT_RD)


def _is_read_away(environ: dict[str, Any]) -> bool:
    if "HTTP_TRANSFER_ENCODING" in environ or "HTTP_EXPECT" in environ:
        return False
    try:
        length = _content_length(environ)
        return length <= MAX_BODY_BYTES and sum(map(len, _read(environ["wsgi.input"], length))) == length
    except ChefError:
        return False


# --- files ------------------------------------------------------------------------------------------------------------

#: Types that a browser may be told. Everything else is bytes; nosniff, sandbox and attachment hold for all of them.
_CONTENT_TYPES = {
    ".avif": "image/avif",
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".m4a": "audio/mp4",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}


def content_type(path: str) -> str:
    """The media type of a file by its extension; bytes unless it is a well-known one."""
    return _CONTENT_TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def attachment(path: str) -> str:
    """A Content-Disposition that saves the file under its own last name, whatever characters that has (RFC 6266)."""
    name = path.rpartition("/")[2]
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def is_unchanged(if_none_match: str, etag: str) -> bool:
    """True if the caller's If-None-Match names `etag` (compared weakly) or anything at all."""
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in known or "*" in known


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes `start` up to but not including `end`."""

    start: int
    end: int


def wanted_range(environ: dict[str, Any], size: int, etag: str) -> Range | None:
    """The one range of a file that a GET asks for, or None for all of it.

    Several ranges, other units and nonsense mean all of it, and so does If-Range with any but the current tag.

    Raises:
        RangeUnsatisfiable: It begins beyond the end.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", environ.get("HTTP_RANGE", "").replace(" ", ""))
    is_current = environ.get("HTTP_IF_RANGE", etag) == etag
    if environ["REQUEST_METHOD"] != "GET" or not is_current or not match or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise RangeUnsatisfiable(size)
    return Range(start, end)


class FilePart:
    """Bytes of an open file as an answer's body: read in blocks, and closed with the answer, begun or not."""

    def __init__(self, stream: BinaryIO, part: Range) -> None:
        """Takes over `stream`."""
        self._stream = stream
        self._part = part

    def __iter__(self) -> Iterator[bytes]:
        self._stream.seek(self._part.start)
        left = self._part.end - self._part.start
        while left > 0 and (block := self._stream.read(min(left, BLOCK_BYTES))):
            yield block
            left -= len(block)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
