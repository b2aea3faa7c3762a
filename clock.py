"""Makes the jobs of the schedules: one for each tick, however many clocks there are and whenever they are killed.

A tick's job is submitted first, under an idempotency key of schedule and tick, and then the schedule moves on. A clock
that dies in between leaves a tick that is due; the next one submits it again, which answers the same job.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import intake
from errors import ChefError, JobNotFound, MoveRefused, NotFound, StoreUnavailable
from jobs import Reason, Request
from store import Store, Submitted
from submission import Options
from timetable import Schedule
from upkeep import Recurring

log = logging.getLogger(__name__)

EVERY_S = 1.0
Submit = Callable[[Request, Options], Submitted]


class Clock:
    """Looks once a second for schedules that are due, from a thread of its own."""

    def __init__(self, store: Store, submit: Submit, bounds: intake.Bounds, every_s: float = EVERY_S) -> None:
        """Nothing runs before start()."""
        self._store = store
        self._submit = submit
        self._bounds = bounds
        ticking = Recurring("schedule", self.tick, every_s)
        self.start, self.stop = ticking.start, ticking.stop

    def tick(self) -> None:
        """Make the jobs of all ticks that are due now. Raises StoreUnavailable."""
        due, now_ms = self._store.due_schedules()
        for schedule in due:
            if schedule.is_known:  # else it is left to clocks of the release that made it
                self._run(schedule, now_ms)

    def run_now(self, schedule: Schedule, key: str) -> Submitted:
        """One job of a schedule beside its ticks. `key` tells one call from the next. Raises as parse and submit do."""
        return self._job(schedule, f"now-{key}")

    def _run(self, schedule: Schedule, now_ms: int) -> None:
        ticks, next_ms = schedule.missed(now_ms)
        made, note = "", "" if ticks else "The tick was missed, and catchUp is none."
        for tick in ticks:
            made, note = self._tick(replace(schedule, last_job=made or schedule.last_job), tick)

        def moved_on(current: Schedule) -> Schedule:
            if current.next_ms != schedule.next_ms:  # another clock did it
                return current
            moved = replace(current, next_ms=next_ms, note=note)
            return replace(moved, last_ms=ticks[-1], last_job=made) if made else moved

        with suppress(NotFound):  # it was removed meanwhile
            self._store.change_schedule(schedule.id, moved_on)

    def _tick(self, schedule: Schedule, tick_ms: int) -> tuple[str, str]:
        """(the job of one tick, why there is none)."""
        unfinished = self._unfinished(schedule.last_job)
        if unfinished and schedule.overlap == "skip":
            return "", f"{schedule.last_job} was not finished, and overlap is skip."
        try:
            made = self._job(schedule, str(tick_ms)).job.id
        except StoreUnavailable:
            raise  # the tick stays due
        except ChefError as error:
            log.warning("schedule %s made no job: %s", schedule.id, error)
            return "", str(error)[:500]
        if unfinished and schedule.overlap == "replace" and made != schedule.last_job:
            with suppress(JobNotFound, MoveRefused):
                why = f"The schedule's next job took its place: {made}."
                self._store.cancel(schedule.last_job, Reason.SUPERSEDED, why)
        return made, ""

    def _unfinished(self, job_id: str) -> bool:
        try:
            return bool(job_id) and not self._store.get(job_id).status.is_final
        except JobNotFound:
            return False

    def _job(self, schedule: Schedule, which: str) -> Submitted:
        body = json.dumps(schedule.job).encode()
        request, options = intake.parse(body, self._bounds)
        digest = hashlib.sha256(body).hexdigest()
        tags = (*options.tags, f"schedule:{schedule.id}")
        key = f"schedule:{schedule.id}:{which}"
        options = replace(options, idempotency_key=key, body_hash=digest, tags=tags, tenant=schedule.tenant)
        return self._submit(request, options)
