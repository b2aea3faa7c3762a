"""The bounded log."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from executor.output import CUT, MAX_PIECES, Lines, Log
from jobs import Limits, OutputChunk

LIMITS = Limits(memory_bytes=1, cpus=1, pids=1, total_s=1, install_s=1, command_s=1)
SMALL = replace(LIMITS, log_head_bytes=100, log_tail_bytes=50, log_line_bytes=20)
NOISE = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\0", b"a", b"word ", "é".encode(), "😀".encode(), b"\xff", b"\xf0", b"x" * 30]
    ),
    max_size=60,
).map(b"".join)


def logged(limits: Limits, *feeds: tuple[str, bytes], first_line: int = 0) -> list[OutputChunk]:
    chunks: list[OutputChunk] = []
    log = Log(limits, first_line, chunks.append)
    log.begin("building")
    for stream, data in feeds:
        log.feed(stream, data)
    log.close()
    return chunks


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def model(line: bytes, cap: int) -> str:
    """What the log should hold of one line, worked out the slow way."""
    shown = next((part for part in reversed(line.split(b"\r")) if part), b"")
    if len(shown) <= cap:
        return shown.decode("utf-8", "replace").replace("\0", "\ufffd")
    begun = next((size for size in (3, 2, 1) if _begins_a_character(shown[cap - size : cap])), 0)
    return shown[: cap - begun].decode("utf-8", "replace").replace("\0", "\ufffd") + CUT


def _begins_a_character(data: bytes) -> bool:
    """True if `data` is the beginning of one character, and not all of it."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return False


@settings(deadline=None)
@given(NOISE, st.lists(st.integers(0, 2000), max_size=12))
@example(b"x" * 100 + b"\rdone\n", [101])
@example(b"old\r" + b"x" * 100 + b"\r\r\n", [50, 104, 105])
@example(b"word word word ww\xff\xf0\x9f\x98\x80", [])
@example(b"\x00word word word \xff\xf0\x9f\x98\x80", [])
@example(b"word word word www\xf0\xc3\xa9", [])
def test_lines_however_cut(data: bytes, places: list[int]) -> None:
    """Any cutting of a stream gives the same lines: what a terminal would show last, valid text, within the cap."""
    lines = Lines(20)
    text = "".join(text for part in cut(data, places) for text in lines.feed(part))
    text += "".join(lines.rest())

    whole = data.split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    assert text == "".join(model(line, 20) + "\n" for line in expected)


@settings(deadline=None)
@given(NOISE, st.lists(st.integers(0, 2000), max_size=12))
@example(b"x" * 200, [])
def test_bounds_however_cut(data: bytes, places: list[int]) -> None:
    """Head and tail hold all lines that fit, the rest is counted exactly, and the numbers have no hole."""
    everything = "".join(chunk.text for chunk in logged(LIMITS, ("stdout", data)))

    chunks = logged(
        replace(SMALL, log_line_bytes=LIMITS.log_line_bytes), *(("stdout", part) for part in cut(data, places))
    )

    text = "".join(chunk.text for chunk in chunks)
    lines = sum(chunk.lines for chunk in chunks)
    dropped = [chunk for chunk in chunks if chunk.dropped_lines]
    assert lines + sum(chunk.dropped_lines for chunk in dropped) == everything.count("\n")
    assert len(text.encode()) + sum(chunk.dropped_bytes for chunk in dropped) == len(everything.encode())
    assert len(text.encode()) <= 150
    assert len(dropped) <= 1
    end = 0
    for chunk in chunks:
        assert chunk.first_line == end + chunk.dropped_lines
        assert chunk.lines == chunk.text.count("\n")
        end = chunk.end_line


@pytest.mark.parametrize("head", [100, 105, 109, 110])
@pytest.mark.parametrize("whole", [True, False])
def test_head_and_tail_exactly(head: int, whole: bool) -> None:
    """The head ends before the first line that does not fit; the tail is the longest end that fits."""
    lines = [f"line {at:04}\n" for at in range(30)]  # 10 bytes each
    parts = ["".join(lines)] if whole else lines
    limits = replace(SMALL, log_head_bytes=head)

    chunks = logged(limits, *(("stdout", part.encode()) for part in parts), first_line=7)

    fit = head // 10
    missing = [(chunk.first_line, chunk.dropped_lines, chunk.dropped_bytes) for chunk in chunks]
    assert missing == [(7, 0, 0), (32, 25 - fit, 250 - 10 * fit)]
    assert "".join(chunk.text for chunk in chunks) == "".join(lines[:fit] + lines[25:])


def test_nothing_dropped_at_the_limit() -> None:
    """Output of exactly head plus tail is kept whole."""
    text = "".join(f"line {at:04}\n" for at in range(15))

    chunks = logged(SMALL, ("stdout", text.encode()))

    assert "".join(chunk.text for chunk in chunks) == text
    assert all(chunk.dropped_lines == 0 for chunk in chunks)


def test_streams_kept_apart() -> None:
    """Half a line of one stream does not mix with the other stream's, and order is order of completion."""
    chunks = logged(LIMITS, ("stdout", b"one "), ("stderr", b"oops\n"), ("stdout", b"two\n"), ("stderr", b"end"))

    assert [(chunk.stream, chunk.text) for chunk in chunks] == [
        ("stderr", "oops\n"), ("stdout", "one two\n"), ("stderr", "end\n"),
    ]  # fmt: skip


def test_few_chunks_for_many_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that alternates between its streams does not make a chunk of every line."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)  # all within one chunk's age, however slow the machine
    chunks = logged(LIMITS, *((("stdout", "stderr")[at % 2], b"x\n") for at in range(2000)))

    assert sum(chunk.lines for chunk in chunks) == 2000
    assert len(chunks) <= MAX_PIECES + 2


def test_chunks_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is handed out after a tenth of a second, or at once when it is large."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    chunks: list[OutputChunk] = []
    log = Log(LIMITS, 0, chunks.append)
    log.begin("building")

    log.feed("stdout", b"small\n")
    assert chunks == []
    now[0] += 0.11
    log.tick()
    assert [chunk.text for chunk in chunks] == ["small\n"]
    log.feed("stdout", b"large\n" * 20_000)
    assert sum(chunk.lines for chunk in chunks) == 20_001


def test_tail_of_the_step() -> None:
    """The tail holds the last 40 lines of this step, of both streams in order, without colours and our own remarks."""
    log = Log(LIMITS, 0, lambda chunk: None)
    log.begin("installing")
    log.feed("stdout", b"earlier step\n")
    log.begin("building")
    log.say("$ npm run build")
    for at in range(100):
        log.feed("stdout" if at % 2 else "stderr", b"\x1b[31mline %d\x1b[0m\n" % at)
    log.end()

    assert log.tail.split("\n") == [f"line {at}" for at in range(60, 100)]


def test_signs_found_in_the_middle() -> None:
    """A sign is found in any line of the step, however far from its end, and forgotten in the next step."""
    log = Log(replace(LIMITS, log_head_bytes=50), 0, lambda chunk: None)
    log.begin("installing", re.compile("E[A-Z]+"))
    log.feed("stderr", b"npm error code EUSA" + b"GE\n" + b"Missing: x\n" * 5000)

    assert log.found == {"EUSAGE"}
    log.begin("building")
    assert log.found == set()


@pytest.mark.parametrize(
    "unit",
    [b"x" * 99 + b"\n", b"y\n", "é\n".encode(), b"crlf\r\n", b"10%\r", b"z" * 64],
    ids=lambda unit: repr(unit[:6]),
)
def test_cost(unit: bytes) -> None:
    """20 MB of any kind of output costs less than 0.4 s of processor time (100 MB: 2 s)."""
    frame = unit * (32_768 // len(unit))
    log = Log(LIMITS, 0, lambda chunk: None)
    log.begin("building")
    began = time.thread_time()

    for _ in range(20_000_000 // len(frame)):
        log.feed("stdout", frame)
    log.close()

    assert time.thread_time() - began < 0.4


def test_frames_are_taken_apart() -> None:
    """Frames of the engine are put together however they are cut, neighbours of one stream joined."""
    from executor.sandbox import Frames

    raw = b"\1\0\0\0\0\0\0\2ab\1\0\0\0\0\0\0\1c\2\0\0\0\0\0\0\3err\1\0\0\0\0\0\0\1d"
    frames = Frames()
    collect: Callable[[bytes], list[tuple[str, bytes]]] = lambda data: list(frames.feed(data))  # noqa: E731

    assert collect(raw) == [("stdout", b"abc"), ("stderr", b"err"), ("stdout", b"d")]
    bytewise = [frame for at in range(len(raw)) for frame in collect(raw[at : at + 1])]
    assert b"".join(data for stream, data in bytewise if stream == "stdout") == b"abcd"
