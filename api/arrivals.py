"""A request on its way in: what of it has arrived, and whether it can be given to a thread without waiting for more.

Only a guess about when: what the bytes mean, the server's parser decides. A wrong guess costs a thread's time, bounded
by the server's deadlines, and never changes how a request is understood.
"""

from __future__ import annotations

import re
import time
from enum import Enum

#: A head longer than this is not waited for: the parser says that it is too long.
MAX_HEAD_BYTES = 64 << 10
#: A longer body is read by the thread that wants it, if its head is acceptable at all.
MAX_BODY_BYTES = 256 << 10
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_BY_THREAD = re.compile(rb"\r\n(transfer-encoding|expect):", re.IGNORECASE)


class State(Enum):
    """What a request lacks. READY: nothing. LONG: a body whose end is far, or not to be seen from its head."""

    HEAD = "head"
    BODY = "body"
    READY = "ready"
    LONG = "long"


class Arrival:
    """The bytes of one request; `began` and `fed` are when the first and the last of them came (monotonic s).

    `head_bytes` and `body_bytes` are how long its parts are, as far as its head has come and can be told from it.
    """

    def __init__(self, data: bytes = b"") -> None:
        """`data` is what came with the request before."""
        self.data = bytearray()
        self.state = State.HEAD
        self.began = self.fed = time.monotonic()
        self.head_bytes = self.body_bytes = 0
        #: For the server: whether these bytes count as waiting.
        self.is_held = False
        if data:
            self.feed(data)

    def feed(self, data: bytes) -> State:
        """Take more bytes; the new state."""
        now = time.monotonic()
        self.began, self.fed = self.began if self.data else now, now
        seen = len(self.data)
        self.data += data
        if self.state is State.HEAD:
            end = self.data.find(_HEAD_END, max(0, seen - len(_HEAD_END)))
            if end >= 0:
                self._read_head(bytes(self.data[: end + 2]), end + len(_HEAD_END))
            elif len(self.data) > MAX_HEAD_BYTES:
                self.state = State.READY
        if self.state is State.BODY and len(self.data) >= self.head_bytes + self.body_bytes:
            self.state = State.READY
        return self.state

    def parts(self) -> tuple[bytes, bytes, bytes]:
        """Head, body, and what came after them; without a whole body all is head."""
        if self.state is not State.READY or not self.head_bytes:
            return bytes(self.data), b"", b""
        end = self.head_bytes + self.body_bytes
        with memoryview(self.data) as data:
            return bytes(data[: self.head_bytes]), bytes(data[self.head_bytes : end]), bytes(data[end:])

    def _read_head(self, head: bytes, length: int) -> None:
        self.began = self.fed  # from here on it is the body that is waited for
        declared = _LENGTH.search(head)
        self.head_bytes, self.body_bytes = length, int(declared[1]) if declared else 0
        self.state = State.LONG if self.body_bytes > MAX_BODY_BYTES or _BY_THREAD.search(head) else State.BODY
