"""When a schedule is due: cron in a time zone, an interval, or once; and what happens when it is late or overlaps."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from errors import Mistake
from jobs import iso
from neighbours import known

Overlap = Literal["skip", "queue", "replace"]
CatchUp = Literal["none", "last", "all"]
OVERLAPS, CATCH_UPS = get_args(Overlap), get_args(CatchUp)

MAX_NAME = 100
LONGEST_EVERY_S = 366 * 86_400
LATEST_YEAR = 2200
#: A tick that is noticed within this time is on time, whatever the policy for late ones says.
GRACE_MS = 60_000
#: Most ticks that are made up for after a long silence.
MOST_CAUGHT_UP = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job template and when it runs. Exactly one of `cron`, `every_s` and `at_ms` is set. Moments in Unix ms.

    overlap: when the last job is not finished, a tick is skipped, queues another job, or replaces the last one.
    catch_up: of ticks that were missed (nobody was there), none, the last or all are made up for.
    next_ms: 0 when there is no more tick. `note` says why the last tick made no job.
    more: what a newer release keeps with it, for that one alone.
    """

    id: str
    job: dict[str, Any] = field(repr=False)
    name: str = ""
    cron: str = ""
    time_zone: str = "UTC"
    every_s: int = 0
    at_ms: int = 0
    overlap: Overlap = "skip"
    catch_up: CatchUp = "last"
    paused: bool = False
    tenant: str = ""
    created_ms: int = 0
    next_ms: int = 0
    last_ms: int = 0
    last_job: str = ""
    note: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """False if a newer release made it, with a word that this one cannot go by."""
        return self.overlap in OVERLAPS and self.catch_up in CATCH_UPS

    def ticks(self, after_ms: int) -> Iterator[int]:
        """The moments at which it is due after `after_ms`, in order.

        Cron follows the clock on the wall, as Debian's cron does: what falls into the hour that is left out in spring
        runs right after it; in the hour that comes twice in autumn, what has a fixed hour runs once.
        """
        if self.cron:
            zone = ZoneInfo(self.time_zone)
            for moment in CronSim(self.cron, dt.datetime.fromtimestamp(after_ms / 1000, zone)):
                if moment.year > LATEST_YEAR:
                    return
                yield int(moment.timestamp() * 1000)
        elif self.every_s:
            step = self.every_s * 1000
            tick = self.created_ms + max(1, (after_ms - self.created_ms) // step + 1) * step
            while True:
                yield tick
                tick += step
        elif self.at_ms > after_ms:
            yield self.at_ms

    def after(self, after_ms: int) -> int:
        """The next tick, or 0."""
        return next(self.ticks(after_ms), 0)

    def missed(self, now_ms: int) -> tuple[list[int], int]:
        """(the ticks to run now, the next one after them), by the policy for late ones."""
        due = [self.next_ms, *islice(_until(self.ticks(self.next_ms), now_ms), MOST_CAUGHT_UP)]
        late = [tick for tick in due if tick < now_ms - GRACE_MS]
        on_time = due[len(late) :]
        made_up = {"none": [], "last": late[-1:] if not on_time else [], "all": late}[self.catch_up]
        return [*made_up, *on_time][-MOST_CAUGHT_UP:], self.after(max(now_ms, due[-1]))

    def to_bytes(self) -> bytes:
        """As the store keeps it."""
        values = asdict(self)
        return json.dumps(values.pop("more") | values).encode()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Schedule:
        """The inverse of to_bytes. Raises ValueError or TypeError for anything else."""
        values = json.loads(stored)
        its_own = known(cls, values)
        return cls(**{**its_own, "more": {name: values[name] for name in values.keys() - its_own.keys()}})

    def to_json(self) -> dict[str, Any]:
        """As the API shows it; of the template only what it is, never its files or its env."""
        when = {"cron": self.cron, "timeZone": self.time_zone} if self.cron else {}
        data = self.job.get("data") or {}
        return {
            "scheduleId": self.id,
            "name": self.name or None,
            **when,
            **({"everySeconds": self.every_s} if self.every_s else {}),
            **({"at": iso(self.at_ms)} if self.at_ms else {}),
            "overlap": self.overlap,
            "catchUp": self.catch_up,
            "paused": self.paused,
            "job": {
                "type": self.job.get("type"),
                "chatId": data.get("chatId"),
                "files": len(data.get("projectFiles") or {}),
            },
            "createdAt": iso(self.created_ms),
            "nextRuns": [iso(tick) for tick in self._coming(5)],
            "lastRunAt": iso(self.last_ms),
            "lastJobId": self.last_job or None,
            "note": self.note or None,
        }

    def _coming(self, number: int) -> list[int]:
        if not self.next_ms or self.paused:
            return []
        return [self.next_ms, *islice(self.ticks(self.next_ms), number - 1)]


def _until(ticks: Iterator[int], moment_ms: int) -> Iterator[int]:
    for tick in ticks:
        if tick > moment_ms:
            return
        yield tick


def parse(document: dict[str, Any], schedule_id: str, now_ms: int) -> tuple[Schedule | None, list[Mistake]]:
    """A schedule from a request's body, or everything that is wrong with it. The job in it is checked elsewhere."""
    mistakes = [
        Mistake(f"#/{name[:200]}", f"There is no such field here; known are {', '.join(RULES)}.")
        for name in document
        if name not in RULES
    ]
    mistakes += [
        Mistake(f"#/{name}", f"{name} must be {rule}.")
        for name, (fits, rule) in RULES.items()
        if name in document and not fits(document[name])
    ]
    if sum(name in document for name in ("cron", "everySeconds", "at")) != 1:
        mistakes.append(Mistake("#", "A schedule has exactly one of cron, everySeconds and at."))
    if "job" not in document:
        mistakes.append(Mistake("#/job", "job is missing: it must be a job as POST /api/jobs takes it."))
    if mistakes:
        return None, mistakes
    made = Schedule(
        id=schedule_id,
        job=document["job"],
        name=document.get("name", ""),
        cron=document.get("cron", ""),
        time_zone=document.get("timeZone", "UTC"),
        every_s=document.get("everySeconds", 0),
        at_ms=_moment_ms(document["at"]) if "at" in document else 0,
        overlap=document.get("overlap", "skip"),
        catch_up=document.get("catchUp", "last"),
        paused=document.get("paused", False),
        created_ms=now_ms,
    )
    made = replace(made, next_ms=made.after(now_ms))
    return (made, []) if made.next_ms else (None, [Mistake("#/at", "at must lie in the future.")])


def _is_cron(value: object) -> bool:
    try:
        return isinstance(value, str) and len(value) <= MAX_NAME and bool(CronSim(value, dt.datetime.now(dt.UTC)))
    except CronSimError:
        return False


def _is_zone(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ZoneInfo(value))
    except (ValueError, OSError, LookupError):
        return False


def _moment_ms(value: object) -> int:
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000) if moment.tzinfo and moment.year <= LATEST_YEAR else 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()


def _is_span(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST_EVERY_S


RULES: dict[str, tuple[Any, str]] = {
    "name": (_is_text, f"a printable string of at most {MAX_NAME} characters"),
    "cron": (_is_cron, "a cron expression of five fields, such as 30 2 * * 1-5"),
    "timeZone": (_is_zone, "the name of a time zone, such as Europe/Berlin"),
    "everySeconds": (_is_span, f"a whole number of seconds from 1 to {LONGEST_EVERY_S:,}"),
    "at": (_moment_ms, "a moment with its offset, such as 2030-01-01T12:00:00Z"),
    "overlap": (OVERLAPS.__contains__, f"one of {', '.join(OVERLAPS)}"),
    "catchUp": (CATCH_UPS.__contains__, f"one of {', '.join(CATCH_UPS)}"),
    "paused": (lambda value: isinstance(value, bool), "true or false"),
    "job": (lambda value: isinstance(value, dict), "a job as POST /api/jobs takes it"),
}
