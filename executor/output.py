"""The bounded log of a run: the first and the last bytes of any flood, as whole lines of valid text."""

from __future__ import annotations

import codecs
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from executor.masking import Masker
from jobs import Limits, OutputChunk

SYSTEM = "system"
CUT = " … [line cut]"
CHUNK_BYTES = 64 << 10
CHUNK_AGE_S = 0.1
PIECE_BYTES = 16 << 10
#: With more switches between streams than this within one chunk's age, lines of one stream are put together.
MAX_PIECES = 32
TAIL_LINES = 40
TAIL_CHARS = 8_000

# What a terminal shows of a line with carriage returns is what follows the last one, if anything does.
_OVERWRITTEN = re.compile(rb"^[^\n]*\r(?=[^\r\n])", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


class Log:
    """Takes what containers print, hands out chunks within the limits, and counts exactly what it left out."""

    def __init__(
        self, limits: Limits, first_line: int, emit: Callable[[OutputChunk], None], mask: Masker | None = None
    ) -> None:
        """`emit` gets the chunks in order; their lines count from `first_line`. `mask` hides values in all of them."""
        self._emit = emit
        self._mask = mask or Masker({})
        self._line_bytes = limits.log_line_bytes
        self._head_left = limits.log_head_bytes
        self._next_line = first_line
        self._pending: list[_Piece] = []
        self._pending_since = 0.0
        self._kept_tail = _Newest(limits.log_tail_bytes, lambda piece: piece.size)
        self._begin_step("", None)
        self.received_bytes = 0

    def begin(self, phase: str, signs: re.Pattern[str] | None = None) -> None:
        """A new step: its tail is empty, and `found` collects what `signs` matches in any of its lines."""
        self.end()
        self._begin_step(phase, signs)

    def feed(self, stream: str, data: bytes) -> None:
        """Take what a container printed, cut anywhere."""
        self.received_bytes += len(data)
        if stream not in self._streams:
            self._streams[stream] = Lines(self._line_bytes)
        for text in self._streams[stream].feed(data):
            self._take(stream, text)
        self.tick()

    def say(self, text: str) -> None:
        """Add a line of our own, and hand it out at once."""
        self._take(SYSTEM, text + "\n")
        self._flush()

    def tick(self) -> None:
        """Hand out what waits, if it is old or large enough."""
        if self._pending and (
            time.monotonic() - self._pending_since >= CHUNK_AGE_S
            or sum(piece.size for piece in self._pending) >= CHUNK_BYTES
        ):
            self._flush()

    def end(self) -> None:
        """The step is over: a last line without a newline counts as a line; hand out what waits."""
        for stream, lines in self._streams.items():
            for text in lines.rest():
                self._take(stream, text)
        self._flush()

    def close(self) -> None:
        """The run is over: hand out the kept tail too, with what is missing before it."""
        self.end()
        tail = self._kept_tail
        tail.trim()
        missing = (tail.dropped_lines, tail.dropped_bytes)
        self._next_line += tail.dropped_lines
        if tail.dropped_lines and not tail.pieces:  # a last line longer than the whole tail
            tail.pieces.append(_Piece(self._phase, SYSTEM, time.time_ns() // 1_000_000, ""))
        for piece in tail.pieces:
            self._hand_out(piece, *missing)
            missing = (0, 0)

    @property
    def tail(self) -> str:
        """The last lines of this step, of both streams, without terminal escapes."""
        text = self._masked(_ESCAPES.sub("", "".join(piece.text for piece in self._recent.pieces)))
        return "\n".join(text.split("\n")[-TAIL_LINES - 1 : -1])[-TAIL_CHARS:]

    def _begin_step(self, phase: str, signs: re.Pattern[str] | None) -> None:
        self._phase, self._signs = phase, signs
        self.found: set[str] = set()
        self._streams: dict[str, Lines] = {}
        self._recent = _Newest(TAIL_LINES, lambda piece: piece.lines)

    def _take(self, stream: str, text: str) -> None:
        piece = _Piece(self._phase, stream, time.time_ns() // 1_000_000, text)
        if self._signs:
            self.found.update(self._signs.findall(text))
        if stream != SYSTEM:
            self._recent.add(piece)
        if piece.size <= self._head_left:
            self._keep(piece)
        elif self._head_left >= 0:
            self._close_head(piece)
        else:
            self._kept_tail.add(piece)

    def _close_head(self, piece: _Piece) -> None:
        """The lines of `piece` that still fit go to the head; from the first that does not, all go to the tail."""
        fitting = 0
        for line in text_lines(piece.text):
            if fitting + len(line.encode()) > self._head_left:
                break
            fitting += len(line.encode())
        head, rest = piece.split(fitting)
        if head.text:
            self._keep(head)
        self._head_left = -1
        self._kept_tail.add(rest)

    def _keep(self, piece: _Piece) -> None:
        self._head_left -= piece.size
        if not self._pending:
            self._pending_since = time.monotonic()
        reach = 1 if len(self._pending) < MAX_PIECES else 4
        for at in range(len(self._pending) - 1, max(-1, len(self._pending) - 1 - reach), -1):
            if self._pending[at].is_like(piece):
                self._pending[at] = self._pending[at].joined(piece)
                return
        self._pending.append(piece)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for piece in pending:
            self._hand_out(piece, 0, 0)

    def _hand_out(self, piece: _Piece, dropped_lines: int, dropped_bytes: int) -> None:
        place = (self._next_line, piece.lines, piece.at_ms, piece.phase, piece.stream)
        self._next_line += piece.lines
        self._emit(OutputChunk(*place, self._masked(piece.text), dropped_lines, dropped_bytes))

    def _masked(self, text: str) -> str:
        """Only here, where lines are whole however they were written, and only what is kept of them is left."""
        *before_cut, rest = text.split(CUT)
        return CUT.join([*map(self._mask.cut, before_cut), self._mask(rest)])


class Lines:
    """Puts one stream's bytes together to whole lines of valid text, holding at most a few line lengths."""

    def __init__(self, line_bytes: int) -> None:
        """A line longer than `line_bytes` is cut there and marked."""
        self._cap = line_bytes
        self._open = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` completes, as texts of one or more whole lines."""
        end = data.rfind(b"\n") + 1
        if end:
            data, whole = data[end:], self._open + data[:end]
            self._open = b""
            yield from map(self._render, self._blocks(whole))
        self._open += data
        if len(self._open) > 4 * self._cap:
            self._open = self._shortened(self._open)

    def rest(self) -> Iterator[str]:
        """The last line, if it has no newline."""
        if self._open:
            yield from self.feed(b"\n")

    def _blocks(self, whole: bytes) -> Iterator[bytes]:
        """Cut at newlines, into as few parts as hold either one line or at most a line's maximum."""
        start = 0
        while start < len(whole):
            end = whole.rfind(b"\n", start, start + self._cap + 1) + 1
            if end <= start:
                end = whole.index(b"\n", start) + 1
            yield whole[start:end]
            start = end

    def _render(self, block: bytes) -> str:
        if b"\r" in block:
            block = _OVERWRITTEN.sub(b"", block.replace(b"\r\n", b"\n")).replace(b"\r", b"")
        if len(block) > self._cap + 1:
            # Without `final`, a character that the cut splits is left out.
            return _clean(codecs.getincrementaldecoder("utf-8")("replace").decode(block[: self._cap])) + CUT + "\n"
        return _clean(block.decode("utf-8", "replace"))

    def _shortened(self, line: bytes) -> bytes:
        """A shorter beginning of a line that looks the same in the end, whatever follows."""
        if b"\r" in line:
            line = _OVERWRITTEN.sub(b"", line)
        shown = line.rstrip(b"\r")
        return shown[: self._cap + 1] + (b"\r" if len(shown) < len(line) else b"")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole lines of one stream in one phase, and when the first of them came."""

    phase: str
    stream: str
    at_ms: int
    text: str

    @property
    def size(self) -> int:
        """Length in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def is_like(self, other: _Piece) -> bool:
        return self.stream == other.stream and self.phase == other.phase

    def joined(self, other: _Piece) -> _Piece:
        return replace(self, text=self.text + other.text)

    def split(self, size: int) -> tuple[_Piece, _Piece]:
        """Two pieces: the first `size` bytes (a line border), and the rest."""
        encoded = self.text.encode()
        return replace(self, text=encoded[:size].decode()), replace(self, text=encoded[size:].decode())


class _Newest:
    """Keeps the newest pieces that together weigh `limit` or a little more, and counts what falls out."""

    def __init__(self, limit: int, weight: Callable[[_Piece], int]) -> None:
        self._limit = limit
        self._weight = weight
        self._total = 0
        self.pieces: deque[_Piece] = deque()
        self.dropped_lines = 0
        self.dropped_bytes = 0

    def add(self, piece: _Piece) -> None:
        self._total += self._weight(piece)
        last = self.pieces[-1] if self.pieces else None
        # Joined, because a program that prints byte by byte would cost a hundred times its output in objects.
        if last and last.is_like(piece) and len(last.text) + len(piece.text) <= PIECE_BYTES:
            self.pieces[-1] = last.joined(piece)
        else:
            self.pieces.append(piece)
        while self.pieces and self._total - self._weight(self.pieces[0]) >= self._limit:
            self._drop(self.pieces.popleft())

    def trim(self) -> None:
        """Let single lines fall out until the weight is within the limit."""
        while self._total > self._limit:
            piece = self.pieces.popleft()
            first, rest = piece.split(len(next(text_lines(piece.text)).encode()))
            self._drop(first)
            if rest.text:
                self.pieces.appendleft(rest)

    def _drop(self, piece: _Piece) -> None:
        self._total -= self._weight(piece)
        self.dropped_lines += piece.lines
        self.dropped_bytes += piece.size


def text_lines(text: str) -> Iterator[str]:
    """The newline-ended lines of a text; str.splitlines would also cut at form feeds and the like."""
    start = 0
    while start < len(text):
        end = text.index("\n", start) + 1
        yield text[start:end]
        start = end


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd")
