"""Schedules with three workers that are killed in turn: each tick makes one job, whichever clock is alive."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import pytest

from tests.faults.scripted import PLAN, Plan
from tests.faults.service import running
from timetable import Schedule

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]
TICKS = 8
EVERY_MS = 1_000


def test_three_clocks_killed_in_turn() -> None:
    """A schedule of every second, and a worker killed -9 after each tick: none is missed, none makes two jobs."""
    with running(workers=3) as service:
        job = {"type": "build", "data": {"projectFiles": {PLAN: json.dumps(asdict(Plan(ms=10)))}}}
        began = time.time_ns() // 1_000_000
        when = {"every_s": EVERY_MS // 1000, "created_ms": began, "next_ms": began + EVERY_MS}
        service.store.add_schedule(Schedule("s", job, overlap="queue", catch_up="all", **when))  # type: ignore[arg-type]

        def ticks() -> int:
            return max(0, service.store.schedule("s").last_ms - began) // EVERY_MS

        for number in range(TICKS):
            service.until(lambda least=number + 1: ticks() >= least, 20, f"tick {number + 1}")  # type: ignore[misc]
            workers = service.living()
            service.kill(workers[number % len(workers)])
        service.store.change_schedule("s", lambda each: replace(each, paused=True))

        service.until(lambda: service.store.counters()["added"] == ticks(), 20, "as many jobs as ticks")
        busy = ("waiting", "delayed", "active")
        service.until(
            lambda: not any(queue[name] for queue in service.store.stats().values() for name in busy), 20, "rest"
        )
        assert service.store.counters()["added"] == ticks() >= TICKS
