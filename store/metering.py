"""The figures for /metrics: what processes hand in, and everything that is shown, in a handful of round trips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs import QUEUE_NAMES
from store.connection import Connection, translated


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that gives signs of life: for how long the last one is past (ms), and how many jobs it runs at once."""

    beat_age_ms: int
    slots: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted (field by field, see metrics.py) and what is there now. Ages in ms, 0 where nothing waits."""

    counted: dict[str, int]
    oldest_ms: dict[str, int]
    workers: dict[str, WorkerSeen]
    active: int
    dead: int
    kept_bytes: int
    memory_bytes: int


class Metering(Connection):
    """Counting for metrics; nothing depends on it."""

    def add_figures(self, counted: Mapping[str, int]) -> None:
        """Add to the figures, field by field."""
        with translated(), self._pipeline() as pipe:
            for field, by in counted.items():
                pipe.hincrby(self._key("figures"), field, by)
            pipe.execute()

    def figures(self) -> Figures:
        """All of them, at one moment of the server's clock as nearly as may be."""
        with translated(), self._pipeline() as pipe:
            pipe.time().hgetall(self._key("figures")).zrange(self._key("workers"), 0, -1, withscores=True)
            pipe.hgetall(self._key("slots")).zcard(self._key("dead")).get(self._key("kept_bytes")).info("memory")
            for queue in QUEUE_NAMES:
                pipe.zcard(self._key("active", queue))
            for queue in QUEUE_NAMES:
                pipe.zrange(self._key("waiting", queue), 0, 0, withscores=True)
            (seconds, micros), counted, workers, slots, dead, kept, memory, *rest = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        firsts = zip(QUEUE_NAMES, rest[len(QUEUE_NAMES) :], strict=True)
        return Figures(
            counted={field.decode(errors="replace"): int(number) for field, number in counted.items()},
            oldest_ms={queue: max(0, now_ms - int(first[0][1])) if first else 0 for queue, first in firsts},
            workers={
                name.decode(errors="replace"): WorkerSeen(self._beat_age_ms(now_ms, until), int(slots.get(name, 0)))
                for name, until in workers
                if until >= now_ms
            },
            active=sum(rest[: len(QUEUE_NAMES)]),
            dead=dead,
            kept_bytes=int(kept or 0),
            memory_bytes=int(memory["used_memory"]),
        )

    def _beat_age_ms(self, now_ms: int, until: float) -> int:
        """A heartbeat is kept as the moment at which it counts as gone."""
        return max(0, self.lease_ms - int(until - now_ms))
