"""Shows the pieces of a job's log: as text for people, as one JSON object per line for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from jobs import OutputChunk, iso

#: Colours stay. Anything else that a terminal would act on is shown instead of sent: a log may hold what a hostile
#: program prints, and somebody reads it with curl.
_ACTED_ON = re.compile("\x1b(?!\\[[0-9;]{0,32}m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]|\r(?!\n)")

#: The bytes of it in UTF-8; those from 128 to 159 are one of these after 0xC2.
_SUSPECT = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n")


def as_text(chunks: Iterable[OutputChunk], offset: int) -> Iterator[bytes]:
    """The lines from number `offset` on, as UTF-8 text; a gap is one line that says what is missing."""
    for chunk in chunks:
        if missing := _missing_lines(chunk, offset):
            yield f"[{missing:,} lines are missing here: the log was too long to keep them]\n".encode()
        text = chunk.text if chunk.first_line >= offset else chunk.text.split("\n", offset - chunk.first_line)[-1]
        yield _harmless(text)


def _harmless(text: str) -> bytes:
    encoded = text.encode()
    # Most output holds nothing of the kind, and this sees it four times as fast as the expression does.
    if len(encoded.translate(None, _SUSPECT)) == len(encoded) and b"\xc2" not in encoded:
        return encoded
    return _ACTED_ON.sub(_visible, text).encode()


def as_ndjson(chunks: Iterable[OutputChunk], offset: int) -> Iterator[bytes]:
    """The lines from number `offset` on, an object each; a gap is an object {"dropped": {"lines", "bytes"}}.

    `bytes` is the size of the whole gap, also when its first lines lie before `offset`.
    """
    for chunk in chunks:
        if missing := _missing_lines(chunk, offset):
            yield _line({"dropped": {"lines": missing, "bytes": chunk.dropped_bytes}})
        yield b"".join(_lines(chunk, offset))


def _lines(chunk: OutputChunk, offset: int) -> Iterator[bytes]:
    time = iso(chunk.at_ms)
    for number, text in enumerate(chunk.text.split("\n")[:-1], chunk.first_line):
        if number >= offset:
            yield _line({"line": number, "time": time, "phase": chunk.phase, "stream": chunk.stream, "text": text})


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _missing_lines(chunk: OutputChunk, offset: int) -> int:
    """How many lines from `offset` on are missing directly before `chunk`."""
    return min(chunk.dropped_lines, max(0, chunk.first_line - offset))


def _visible(match: re.Match[str]) -> str:
    """A control character as its picture (U+2400 and on), one above 127 as the replacement character."""
    code = ord(match[0])
    return (
        "\N{REPLACEMENT CHARACTER}" if code > 0x7F else "\N{SYMBOL FOR DELETE}" if code == 0x7F else chr(0x2400 + code)
    )
