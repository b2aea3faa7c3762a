"""What a build warns of, picked out of its log by how bundlers mark it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from executor.output import text_lines
from executor.reports.values import text
from jobs import OutputChunk, Phase

MAX_WARNINGS = 50
MAX_CHARS = 500
MAX_LINES = 100_000

#: On either stream: Vite's and Rollup's (!), esbuild's ▲ [WARNING], Next's ⚠, webpack's WARNING in, the word itself.
_MARKED = re.compile(
    r"\s{0,8}(?:\(!\) |▲ \[WARNING\] |⚠️?\s+|(?:WARN(?:ING)?|warn(?:ing)?|Warning)(?::| -| in)? (?=\S)|"
    r"(?:\S{1,100} )?(?:Deprecation|DEPRECATION) (?:Warning|WARNING)(?: \[[\w-]{1,50}\])?: )"
)
#: On stderr alone, where bundlers keep apart what went wrong: Rolldown's [CODE], Rollup's [plugin x] and place (1:2).
_ON_STDERR = re.compile(
    r"\[[A-Z][A-Z_]{2,50}\] (?=\S)|\[plugin [^\]]{1,100}\] (?=\S)|[^\s(]{1,300} \(\d{1,7}:\d{1,7}\): "
)
_NONE = re.compile(r"\s*(?:0|no) warnings?\b", re.IGNORECASE)


class Remarks:
    """Hears a log on its way, and remembers the warnings of the building phase, each once."""

    def __init__(self, emit: Callable[[OutputChunk], None]) -> None:
        """`emit` gets every chunk."""
        self._emit = emit
        self._lines = 0
        self._found: dict[str, None] = {}
        self._cut = 0

    def output(self, chunk: OutputChunk) -> None:
        """Take the next part of the log."""
        if chunk.phase == Phase.BUILDING:
            self._hear(chunk)
        self._emit(chunk)

    def told(self) -> dict[str, Any]:
        """{warnings, warningsCut?}, or nothing if there are none."""
        if not self._found:
            return {}
        return {"warnings": list(self._found), **({"warningsCut": self._cut} if self._cut else {})}

    def _hear(self, chunk: OutputChunk) -> None:
        for line in text_lines(chunk.text):
            self._lines += 1
            if self._lines > MAX_LINES:
                return
            if message := _warning(line[: 4 * MAX_CHARS], chunk.stream):
                self._take(message)

    def _take(self, message: str) -> None:
        if message in self._found:
            return
        if len(self._found) < MAX_WARNINGS:
            self._found[message] = None
        else:
            self._cut += 1


def _warning(line: str, stream: str) -> str:
    """The message, if a line is a warning; the marks of (!), ▲ and ⚠ are left out."""
    plain = text(line, MAX_CHARS)
    if stream == "system" or _NONE.match(plain):
        return ""
    if _MARKED.match(plain):
        return re.sub(r"^(?:\(!\)|▲ \[WARNING\]|⚠️?)\s+", "", plain)
    return plain if stream == "stderr" and _ON_STDERR.match(plain) else ""
