"""What one event stream shows, and how far it is: pieces of text/event-stream, each exactly once, in order.

Every feed has a place. What it shows next comes from the store (`read`, to catch up) or from the watch (`take`, when
it is up to date); whatever lies before its place is left out, so the two may overlap.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol

from jobs import OutputChunk, iso
from store import Happening, Store

KINDS = ("state", "progress", "log")
#: How many chunks of a log, and how many happenings, one read fetches: what a slow reader makes us hold.
CHUNKS = 10
HAPPENINGS = 20
#: Behind all lines of whatever happened at a place.
_WHOLE = 10**12

#: Where a feed is: the last thing that was shown, and the next line of a log.
Place = tuple[tuple[int, int], int]
START: Place = ((0, 0), 0)


def place_of(event_id: str) -> Place | None:
    """The place that an event's id names; None if it is no id of ours."""
    match = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})\.([0-9]{1,12})", event_id)
    return ((int(match[1]), int(match[2])), int(match[3])) if match else None


class Told:
    """Something that happened, with its output if it is a log's; encoded once for all feeds. None: not fetched."""

    def __init__(self, happening: Happening, output: Sequence[OutputChunk] | None = None) -> None:
        """Nothing is encoded yet."""
        self.happening = happening
        self.output = output

    @cached_property
    def frames(self) -> list[tuple[int, bytes]]:
        """For each event the line to go on from, and its fields but the id."""
        if self.happening.kind == "log":
            return [(chunk.end_line, output_frame(self.happening.job_id, chunk)) for chunk in self.output or ()]
        return [(self.happening.line, _frame(self.happening.kind, _state(self.happening)))]


class Feed(Protocol):
    """What a stream needs of what it shows. `ended`: nothing more will come."""

    ended: bool
    kinds: frozenset[str]

    def read(self, store: Store) -> tuple[bytes, bool]:
        """The next events from the store, and whether there may be more. Raises StoreUnavailable."""

    def take(self, told: Told) -> bytes | None:
        """What just happened, as events; None if something before it is missing, so that it has to be read."""


class JobFeed:
    """One job from a place on, to its end. Lines and changes are in the order in which they came about."""

    def __init__(self, job_id: str, kinds: Iterable[str] = KINDS, place: Place = START) -> None:
        """Begins after `place`."""
        self.job_id = job_id
        self.kinds = frozenset(kinds)
        self.ended = False
        self._last, self._line = place

    def read(self, store: Store) -> tuple[bytes, bool]:
        """See Feed."""
        story = store.story(self.job_id, self._line, CHUNKS if "log" in self.kinds else 0)
        if story is None:
            self.ended = True
            return b"", False
        news = [each for each in story.happenings if each.id > self._last]
        shown = []
        for chunk in story.chunks:
            while news and news[0].line < chunk.end_line:
                shown.append(self._show(Told(news.pop(0))))
            shown.append(self._show_output(chunk.end_line, output_frame(self.job_id, chunk)))
        if len(story.chunks) == CHUNKS:
            return b"".join(shown), True
        shown += [self._show(Told(each)) for each in news]
        self.ended = story.has_ended
        return b"".join(shown), False

    def take(self, told: Told) -> bytes | None:
        """See Feed."""
        happening = told.happening
        if happening.kind != "log":
            return self._show(told) if happening.id > self._last else b""
        if "log" not in self.kinds:
            return b""
        if told.output is None or happening.first > self._line:
            return None
        return b"".join(self._show_output(*frame) for frame in told.frames if frame[0] > self._line)

    def _show(self, told: Told) -> bytes:
        self._last = told.happening.id
        self.ended = told.happening.is_end
        return self._with_id(told.frames[0][1]) if told.happening.kind in self.kinds else b""

    def _show_output(self, line: int, frame: bytes) -> bytes:
        self._line = line
        return self._with_id(frame)

    def _with_id(self, frame: bytes) -> bytes:
        return _id(self._last, self._line) + frame


class AllFeed:
    """All jobs of a tenant (None: of everybody) from a place on, without end.

    Something that is not kept any more is one event `gap`.
    """

    def __init__(self, kinds: Iterable[str], place: Place, tenant: str | None = None) -> None:
        """Begins after `place`."""
        self.kinds = frozenset(kinds)
        self.ended = False
        self._tenant = tenant
        self._last, self._line = place

    def read(self, store: Store) -> tuple[bytes, bool]:
        """See Feed."""
        happenings = store.happenings_from(self._last, HAPPENINGS)
        shown = [self._gap()] if self._last > (0, 0) and happenings and happenings[0].id != self._last else []
        logs = [each for each in happenings if each.kind == "log" and "log" in self.kinds]
        output = dict(zip((each.id for each in logs), store.output_of(logs), strict=True))
        shown += [self._show(Told(each, output.get(each.id, ()))) for each in happenings]
        return b"".join(shown), len(happenings) > 1

    def take(self, told: Told) -> bytes | None:
        """See Feed."""
        if told.happening.kind == "log" and "log" in self.kinds and told.output is None:
            return None
        return self._show(told)

    def _show(self, told: Told) -> bytes:
        happening = told.happening
        if happening.id < self._last:
            return b""
        begun = self._line if happening.id == self._last else -1
        if begun >= happening.line:
            return b""
        self._last, self._line = happening.id, _WHOLE
        if happening.kind not in self.kinds or self._tenant not in (None, happening.tenant):
            return b""
        return b"".join(_id(happening.id, line) + frame for line, frame in told.frames if line > begun)

    def _gap(self) -> bytes:
        return _frame("gap", {"after": iso(self._last[0])})


def whole(place: tuple[int, int]) -> Place:
    """The place after everything that happened at `place`."""
    return place, _WHOLE


def output_frame(job_id: str, chunk: OutputChunk) -> bytes:
    """Lines of a log as an event, without its id."""
    shown: dict[str, Any] = {
        "jobId": job_id,
        "line": chunk.first_line,
        "time": iso(chunk.at_ms),
        "phase": chunk.phase,
        "stream": chunk.stream,
        "text": chunk.text,
    }
    if chunk.dropped_lines:
        shown["dropped"] = {"lines": chunk.dropped_lines, "bytes": chunk.dropped_bytes}
    return _frame("log", shown)


def _state(happening: Happening) -> dict[str, Any]:
    data = happening.data
    return {
        "jobId": happening.job_id,
        "type": data["type"],
        "status": data["status"],
        "progress": data["progress"],
        "phase": data["phase"] or None,
        "attempt": data["attempt"],
        "conclusion": data["conclusion"] or None,
        "reason": data["reason"] or None,
        "time": iso(data["at_ms"]),
    }


def _frame(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _id(last: tuple[int, int], line: int) -> bytes:
    return b"id: %d-%d.%d\n" % (*last, line)
