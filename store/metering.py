"""The figures for /metrics: what processes hand in, and everything that is shown, in a handful of round trips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs import QUEUE_NAMES
from store.connection import Connection, translated


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted (field by field, see metrics.py) and what is there now. Ages in ms, 0 where nothing waits."""

    counted: dict[str, int]
    oldest_ms: dict[str, int]
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
            pipe.time().hgetall(self._key("figures"))
            pipe.zcard(self._key("dead")).get(self._key("kept_bytes")).info("memory")
            for queue in QUEUE_NAMES:
                pipe.zrange(self._key("waiting", queue), 0, 0, withscores=True)
            (seconds, micros), counted, dead, kept, memory, *oldest = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        firsts = zip(QUEUE_NAMES, oldest, strict=True)
        return Figures(
            counted={field.decode(errors="replace"): int(number) for field, number in counted.items()},
            oldest_ms={queue: max(0, now_ms - int(first[0][1])) if first else 0 for queue, first in firsts},
            dead=dead,
            kept_bytes=int(kept or 0),
            memory_bytes=int(memory["used_memory"]),
        )
