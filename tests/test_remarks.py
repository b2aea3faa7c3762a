"""Warnings of real bundlers, picked out of a log."""

from __future__ import annotations

import pytest

from executor.remarks import MAX_CHARS, MAX_WARNINGS, Remarks
from jobs import OutputChunk, Phase

MARKED: list[tuple[str, str, str]] = [
    ("stderr", "(!) Some chunks are larger than 500 kB.", "Some chunks are larger than 500 kB."),
    ("stderr", "\x1b[33m[EVAL] \x1b[0mUse of direct `eval` function", "[EVAL] Use of direct `eval` function"),
    ("stderr", "[INEFFECTIVE_DYNAMIC_IMPORT] src/App.tsx is", "[INEFFECTIVE_DYNAMIC_IMPORT] src/App.tsx is"),
    ("stderr", "[plugin vite:esbuild] src/w.ts: Comparison", "[plugin vite:esbuild] src/w.ts: Comparison"),
    ("stderr", "src/w.ts (2:17): Use of eval in", "src/w.ts (2:17): Use of eval in"),
    ("stderr", '▲ [WARNING] "colr" is not known', '"colr" is not known'),
    ("stdout", "WARNING in ./src/index.js 3:4", "WARNING in ./src/index.js 3:4"),
    ("stdout", " ⚠ Invalid next.config.js options", "Invalid next.config.js options"),
    ("stderr", "warn - No utility classes were detected", "warn - No utility classes were detected"),
    ("stderr", "Deprecation Warning [import]: Sass", "Deprecation Warning [import]: Sass"),
    ("stderr", "(!) /work/project/src/a.ts is imported", "src/a.ts is imported"),
    ("stderr", "[plugin vite:reporter] ", ""),
    ("stdout", "✓ built in 1.63s", ""),
    ("stdout", "0 warnings and 0 errors", ""),
    ("stdout", "No warnings", ""),
    ("stdout", "warnings.js  4 kB", ""),
    ("stdout", "src/w.ts (2:17): fine", ""),
    ("stderr", "warning", ""),
    ("system", "(!) ours", ""),
]  # fmt: skip


def heard(*lines: str, stream: str = "stderr", phase: str = Phase.BUILDING) -> Remarks:
    remarks = Remarks(lambda chunk: None)
    text = "".join(f"{line}\n" for line in lines)
    remarks.output(OutputChunk(0, len(lines), 0, phase, stream, text, 0, 0))
    return remarks


@pytest.mark.parametrize(("stream", "line", "message"), MARKED)
def test_marks(stream: str, line: str, message: str) -> None:
    """What a bundler marks is a warning; the same words without a mark are none."""
    assert heard(line, stream=stream).told() == ({"warnings": [message]} if message else {})


def test_only_of_the_build() -> None:
    """What an installer or a test warns of is not the build's; every chunk goes on."""
    chunks: list[OutputChunk] = []
    remarks = Remarks(chunks.append)
    chunk = OutputChunk(0, 1, 0, Phase.INSTALLING, "stderr", "warning: old\n", 0, 0)

    remarks.output(chunk)

    assert (remarks.told(), chunks) == ({}, [chunk])


def test_bounds() -> None:
    """Each warning once, so many of them, and none longer than so many characters."""
    found = heard("(!) same", "(!) same", *(f"(!) {at}" + "x" * 10_000 for at in range(200))).told()

    assert (len(found["warnings"]), found["warningsCut"]) == (MAX_WARNINGS, 151)
    assert max(map(len, found["warnings"])) <= MAX_CHARS


@pytest.mark.parametrize("text", ["(" * 400_000, "a" * 400_000, "[" * 400_000, "\n" * 400_000, " " * 400_000])
def test_no_line_takes_long(text: str) -> None:
    """A log of nothing but the beginnings of marks is read in the time of any other."""
    assert heard(text).told() == {}
