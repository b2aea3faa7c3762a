"""What happens to jobs, as a stream: all of it live or from any point on, and one job's from the start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jobs import OutputChunk, Status
from neighbours import word
from store.connection import LONGEST_BLOCK_S, Connection, translated
from store.records import chunk_from_bytes
from store.values import Happening, Story

#: How many happenings one call reads.
HAPPENINGS = 500


class Watching(Connection):
    """A place in the stream is a pair of numbers, (0, 0) before the first."""

    def newest_happening(self) -> tuple[int, int]:
        """The place of the last thing that happened."""
        with translated():
            entries = self._redis.xrevrange(self._key("events"), count=1)
        return _place(entries[0][0]) if entries else (0, 0)

    def wait_for_happenings(self, after: tuple[int, int], timeout_s: float) -> list[Happening]:
        """What happened after a place; blocks until there is something, at most `timeout_s` (and 5) seconds."""
        block_ms = int(min(timeout_s, LONGEST_BLOCK_S) * 1000)
        with translated():
            read = self._blocking.xread({self._key("events"): _text(after)}, count=HAPPENINGS, block=block_ms)
        return [_happening(*entry) for entry in read[0][1]] if read else []

    def happenings_from(self, place: tuple[int, int], limit: int) -> list[Happening]:
        """What happened at a place and after it, as far as it is kept; up to `limit`."""
        with translated():
            entries = self._redis.xrange(self._key("events"), min=_text(place), count=limit)
        return [_happening(*entry) for entry in entries]

    def story(self, job_id: str, line: int, chunks: int) -> Story | None:
        """One job's happenings, and up to `chunks` of its log after line `line`; None if there is no such job."""
        answer = self._run("events", job_id, line, chunks)
        if not answer:
            return None
        status, told, output = answer
        happenings = tuple(_kept(job_id, *each.split(b" ", 2)) for each in told)
        return Story(word(Status, status.decode()).is_final, happenings, tuple(map(chunk_from_bytes, output)))

    def output_of(self, happenings: Sequence[Happening]) -> list[list[OutputChunk]]:
        """The output that each of these, all of kind log, tells of; nothing where it was removed. One round trip."""
        with translated(), self._pipeline() as pipe:
            for each in happenings:
                pipe.xrange(self._key("log", each.job_id), min=f"{each.first + 1}-0", max=f"{each.line}-0")
            answers = pipe.execute() if happenings else []
        return [[chunk_from_bytes(entry[b"chunk"]) for _, entry in entries] for entries in answers]


def _place(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


def _text(place: tuple[int, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _happening(entry_id: bytes, entry: dict[bytes, bytes]) -> Happening:
    data: dict[str, Any] = json.loads(entry[b"data"])
    kind = entry[b"kind"].decode()
    return Happening(
        _place(entry_id),
        entry[b"job"].decode(),
        kind,
        data.get("line", 0),
        data.get("first", 0),
        {} if kind == "log" else data,
        entry[b"tenant"].decode(),
    )


def _kept(job_id: str, entry_id: bytes, kind: bytes, data: bytes) -> Happening:
    told: dict[str, Any] = json.loads(data)
    return Happening(_place(entry_id), job_id, kind.decode(), told.get("line", 0), data=told)
