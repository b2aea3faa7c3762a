"""The schedules: kept whole in one hash, with the moment of the next tick beside them."""

from __future__ import annotations

from collections.abc import Callable

from errors import NotFound
from store.connection import Connection, translated
from timetable import Schedule


class Schedules(Connection):
    """Every change compares: it happens only if nobody was quicker, so any number of clocks and callers may try."""

    def add_schedule(self, schedule: Schedule) -> None:
        """Keep a new schedule."""
        self._run("put_schedule", schedule.id, "", schedule.to_bytes(), _due_ms(schedule))

    def schedule(self, schedule_id: str) -> Schedule:
        """One schedule. Raises NotFound."""
        return Schedule.from_bytes(self._stored(schedule_id))

    def schedules(self) -> list[Schedule]:
        """All schedules, the oldest first."""
        with translated():
            stored = self._redis.hvals(self._key("schedule"))
        return sorted(map(Schedule.from_bytes, stored), key=lambda each: (each.created_ms, each.id))

    def due_schedules(self) -> tuple[list[Schedule], int]:
        """(those that have a tick to run, now) by the server's clock, in Unix ms."""
        with translated():
            seconds, micros = self._redis.time()
            now_ms = seconds * 1000 + micros // 1000
            due = self._redis.zrangebyscore(self._key("schedule_due"), "-inf", now_ms, 0, 100)
            stored = self._redis.hmget(self._key("schedule"), due) if due else []
        return [Schedule.from_bytes(each) for each in stored if each], now_ms

    def change_schedule(self, schedule_id: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Put `change` of it in its place, whoever else changes it meanwhile. Raises NotFound."""
        while True:
            before = self._stored(schedule_id)
            after = change(Schedule.from_bytes(before))
            if self._run("put_schedule", schedule_id, before, after.to_bytes(), _due_ms(after)) == b"ok":
                return after

    def remove_schedule(self, schedule_id: str) -> None:
        """Forget one; the jobs that it made stay. Raises NotFound."""
        with translated(), self._pipeline() as pipe:
            pipe.hdel(self._key("schedule"), schedule_id).zrem(self._key("schedule_due"), schedule_id)
            removed, _ = pipe.execute()
        if not removed:
            raise _unknown()

    def _stored(self, schedule_id: str) -> bytes:
        with translated():
            stored: bytes | None = self._redis.hget(self._key("schedule"), schedule_id)
        if stored is None:
            raise _unknown()
        return stored


def _due_ms(schedule: Schedule) -> int:
    return 0 if schedule.paused else schedule.next_ms


def _unknown() -> NotFound:
    return NotFound("There is no schedule of this id.")
