"""Serves the log of a job: from any line, its end, one phase or stream of it, as text or as objects."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

from bottle import request, response

from api import logview, wire
from api.guard import own
from api.query import Query
from jobs import Job, OutputChunk, Phase
from store import Store

STREAMS = ("stdout", "stderr", "system")
MAX_TAIL = 100_000
#: How much is sent at a time: the pieces of a log are those in which the job printed it, often a line or two.
SENT_BYTES = 64 << 10
#: How much of a log a record holds that includes it.
TAIL_LINES, TAIL_CHARACTERS = 2_000, 256_000
_FORMATS: dict[str, tuple[Callable[[Iterable[OutputChunk], int], Iterator[bytes]], str]] = {
    "text": (logview.as_text, "text/plain; charset=utf-8"),
    "ndjson": (logview.as_ndjson, "application/x-ndjson"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """Which lines are wanted: `first` up to but not including `end`, and the last `tail` of those; 0: no bound."""

    first: int = 0
    end: int = 0
    tail: int = 0
    phase: str = ""
    stream: str = ""

    def takes(self, chunk: OutputChunk) -> bool:
        """True if the chunk is of the phase and stream that are wanted."""
        return self.phase in ("", chunk.phase) and self.stream in ("", chunk.stream)


class JobLogs:
    """One method for the one route."""

    def __init__(self, store: Store) -> None:
        """Keep the store; nothing is opened."""
        self._store = store

    def log(self, job_id: str) -> Iterable[bytes]:
        """The log as far as it goes now; X-Next-Offset is the line to go on from, X-Log-Complete if none will come."""
        asked = Query()
        wish, form, saved = _wish(asked), _format(asked), asked.flag("download")
        asked.check()
        job = own(self._store, job_id)
        end = min(wish.end or job.log_lines, job.log_lines)
        chunks = self._last(job, wish, end) if wish.tail else self._chunks(job, wish.first, end)
        chunks = (_cut(chunk, end) for chunk in chunks if wish.takes(chunk))
        first = next(chunks, None)  # before the answer begins, so that a store that is away makes a 503
        show, response.content_type = _FORMATS[form]
        response.set_header("X-Next-Offset", str(max(wish.first, end)))
        response.set_header("X-Log-Complete", "true" if job.status.is_final and end == job.log_lines else "false")
        if saved:
            name = f"{job.id}.{'log' if form == 'text' else form}"
            response.set_header("Content-Disposition", wire.attachment(name))
        return _together(show(itertools.chain([first] if first else [], chunks), wish.first))

    def end_of(self, job: Job) -> str:
        """The last lines of a job's log as text, at most TAIL_CHARACTERS of it."""
        shown = b"".join(logview.as_text(self._last(job, Wish(tail=TAIL_LINES), job.log_lines), 0)).decode()
        return shown if len(shown) <= TAIL_CHARACTERS else shown[-TAIL_CHARACTERS:].partition("\n")[2]

    def _chunks(self, job: Job, first: int, end: int) -> Iterator[OutputChunk]:
        """What has lines from `first` on and before `end`; what came after `job` was read is for the next request."""
        while first < end:
            page = self._store.log(job.id, first)
            for chunk in page:
                if chunk.first_line >= end:
                    return
                yield chunk
            if not page:
                return
            first = page[-1].end_line

    def _last(self, job: Job, wish: Wish, end: int) -> Iterator[OutputChunk]:
        """The last lines before `end` that are wanted, oldest first: read from there back until there are enough."""
        found: list[OutputChunk] = []
        missing = wish.tail
        for chunk in self._backwards(job, end):
            if missing <= 0 or chunk.end_line <= wish.first:
                break
            if wish.takes(chunk):
                kept = _cut(chunk, end)
                found.append(_without_head(kept, kept.lines - missing))
                missing -= kept.lines
        return reversed(found)

    def _backwards(self, job: Job, end: int) -> Iterator[OutputChunk]:
        """The log from the chunk that holds the line before `end` to the first."""
        yield from self._chunks(job, max(0, end - 1), end)
        before = end - 1
        while before > 0 and (page := self._store.log_backwards(job.id, before)):
            yield from page
            before = page[-1].first_line


def _wish(asked: Query) -> Wish:
    return Wish(
        first=asked.number("from", 0) or asked.number("offset", 0),
        end=asked.number("to", 0),
        tail=asked.number("tail", 0, 1, MAX_TAIL),
        phase=asked.word("phase", tuple(Phase)),
        stream=asked.word("stream", STREAMS),
    )


def _format(asked: Query) -> str:
    named = asked.word("format", tuple(_FORMATS))
    return named or ("ndjson" if "application/x-ndjson" in request.get_header("Accept", "") else "text")


def _together(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks that are worth a call to the network each."""
    gathered = bytearray()
    for block in blocks:
        gathered += block
        if len(gathered) >= SENT_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _cut(chunk: OutputChunk, end: int) -> OutputChunk:
    """The chunk without its lines from `end` on."""
    if chunk.end_line <= end:
        return chunk
    kept = chunk.text.split("\n")[: end - chunk.first_line]
    return dataclasses.replace(chunk, lines=len(kept), text="".join(f"{line}\n" for line in kept))


def _without_head(chunk: OutputChunk, lines: int) -> OutputChunk:
    """The chunk without its first `lines`, and then without the gap before it."""
    if lines <= 0:
        return chunk
    kept = chunk.text.split("\n", lines)[-1]
    return dataclasses.replace(
        chunk, first_line=chunk.first_line + lines, lines=chunk.lines - lines, text=kept, dropped_lines=0
    )
