"""Schedules over HTTP: make, look at, pause, run now, remove."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from typing import Any

from bottle import request, response

import intake
import timetable
from api import wire
from api.answers import json_answer
from api.guard import caller
from clock import Clock
from errors import InvalidRequest, Mistake, NotFound
from jobs import iso
from store import Store
from timetable import Schedule

MAX_SCHEDULES = 1_000


class Schedules:
    """One method for each route."""

    def __init__(self, store: Store, clock: Clock, bounds: intake.Bounds, body_bytes: int) -> None:
        """Keep the parts; nothing is opened. `clock` is asked for single runs only."""
        self._store = store
        self._clock = clock
        self._bounds = bounds
        self._body_bytes = body_bytes

    def create(self) -> bytes:
        """Keep a job template and when it runs."""
        wire.require_json(request.environ)
        document = intake.read_json(wire.read_body(request.environ, self._body_bytes))
        made, mistakes = timetable.parse(document, f"sched-{secrets.token_hex(8)}", time.time_ns() // 1_000_000)
        mistakes += self._job_mistakes(document.get("job"))
        if len(self._store.schedules()) >= MAX_SCHEDULES:
            mistakes.append(Mistake("#", f"There are {MAX_SCHEDULES:,} schedules, which is the most."))
        if mistakes or made is None:
            raise InvalidRequest(mistakes)
        made = replace(made, tenant=caller().owner)
        self._store.add_schedule(made)
        response.set_header("Location", f"/api/schedules/{made.id}")
        return json_answer(made.to_json(), 201)

    def listed(self) -> bytes:
        """All that the caller sees with their next runs, the oldest first."""
        own = [each for each in self._store.schedules() if caller().sees(each.tenant)]
        return json_answer({"schedules": [schedule.to_json() for schedule in own]})

    def one(self, schedule_id: str) -> bytes:
        """One of them."""
        return json_answer(self._own(schedule_id).to_json())

    def remove(self, schedule_id: str) -> bytes:
        """Forget one; the jobs that it made stay."""
        self._store.remove_schedule(self._own(schedule_id).id)
        return json_answer({"scheduleId": schedule_id, "removed": True})

    def pause(self, schedule_id: str) -> bytes:
        """Make no jobs until it is resumed; the ticks in between are not made up for."""
        self._own(schedule_id)
        return json_answer(self._store.change_schedule(schedule_id, lambda each: replace(each, paused=True)).to_json())

    def resume(self, schedule_id: str) -> bytes:
        """Go on with the next tick from now."""
        self._own(schedule_id)
        now_ms = time.time_ns() // 1_000_000

        def resumed(schedule: Schedule) -> Schedule:
            next_ms = schedule.after(now_ms) if schedule.paused else schedule.next_ms
            return replace(schedule, paused=False, next_ms=next_ms)

        return json_answer(self._store.change_schedule(schedule_id, resumed).to_json())

    def run(self, schedule_id: str) -> bytes:
        """One job now, beside the ticks; the same Idempotency-Key again answers the same job."""
        key = request.get_header("Idempotency-Key") or secrets.token_hex(8)
        taken = self._clock.run_now(self._own(schedule_id), key[:100])
        response.set_header("Location", f"/api/jobs/{taken.job.id}")
        created = {"jobId": taken.job.id, "status": taken.job.status, "createdAt": iso(taken.job.created_ms)}
        return json_answer({"scheduleId": schedule_id, **created}, 201 if taken.created else 200)

    def _own(self, schedule_id: str) -> Schedule:
        """A schedule if the caller may see it. Raises NotFound."""
        schedule = self._store.schedule(schedule_id)
        if not caller().sees(schedule.tenant):
            raise NotFound("There is no schedule of this id.")
        return schedule

    def _job_mistakes(self, job: Any) -> list[Mistake]:
        """What POST /api/jobs would say of the template."""
        if not isinstance(job, dict):
            return []
        try:
            intake.parse(json.dumps(job).encode(), self._bounds)
        except InvalidRequest as error:
            return [Mistake(f"#/job{mistake.pointer.removeprefix('#')}", mistake.detail) for mistake in error.mistakes]
        return []
