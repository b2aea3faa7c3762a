"""The jobs of schedules: one for each tick, with any number of clocks, whenever one dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import intake
from artifacts import Shelf
from clock import Clock
from errors import StoreUnavailable
from jobs import Job, Status
from store import Store, Submitted
from tests.api_cases import Client, client
from tests.store_cases import SUCCESS
from timetable import Overlap, Schedule

JOB = {"type": "build", "data": {"projectFiles": {"a.txt": "x"}, "env": {"TOKEN": "hush-hush"}}}
BOUNDS = intake.Bounds(10, 1 << 20)


def now_ms() -> int:
    """This moment, which is Redis' too: it runs here."""
    return time.time_ns() // 1_000_000


def scheduled(store: Store, due_ms_ago: int = 0, **options: Any) -> Schedule:
    """A schedule whose tick was due that long ago; the next comes in an hour."""
    schedule = Schedule(
        "sched-1",
        JOB,
        every_s=3600,
        created_ms=now_ms() - due_ms_ago - 3_600_000,
        next_ms=now_ms() - due_ms_ago,
        **options,
    )
    store.add_schedule(schedule)
    return schedule


def jobs(store: Store) -> list[Job]:
    """Every job there is."""
    found = []
    while job := store.claim("w").job:
        found.append(job)
    return found


@pytest.fixture
def clock(store: Store) -> Clock:
    return Clock(store, store.submit, BOUNDS)


def test_a_tick_makes_one_job(store: Store, clock: Clock) -> None:
    """A tick that is due makes its job, tagged with the schedule, and the schedule moves on; then nothing is due."""
    schedule = scheduled(store)
    for _ in range(3):
        clock.tick()
    (job,) = jobs(store)
    after = store.schedule("sched-1")

    assert job.tags == ("schedule:sched-1",)
    assert (after.last_job, after.last_ms) == (job.id, schedule.next_ms)
    assert after.next_ms == schedule.next_ms + 3_600_000


def test_many_clocks(store: Store, clock: Clock) -> None:
    """Eight clocks that look at the same moment make one job of each of twenty ticks."""
    for number in range(20):
        store.add_schedule(
            Schedule(f"sched-{number}", JOB, every_s=3600, created_ms=now_ms() - 3_600_000, next_ms=now_ms())
        )
    gate = threading.Barrier(8)

    def look() -> None:
        gate.wait()
        clock.tick()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(job.tags[0] for job in jobs(store)) == sorted(f"schedule:sched-{number}" for number in range(20))


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_clock_that_dies(store: Store, clock: Clock, dies: str) -> None:
    """A clock that dies before or after the job is stored leaves a tick that another runs: one job in all."""
    scheduled(store)

    def submit(*args: Any) -> Submitted:
        if dies == "after":
            store.submit(*args)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Clock(store, submit, BOUNDS).tick()
    clock.tick()

    assert len(jobs(store)) == 1


def test_redis_away_keeps_the_tick(store: Store, clock: Clock) -> None:
    """A tick whose job cannot be stored stays due."""
    scheduled(store)

    def submit(*args: Any) -> Submitted:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        Clock(store, submit, BOUNDS).tick()
    clock.tick()

    assert len(jobs(store)) == 1


@pytest.mark.parametrize(
    ("overlap", "others", "first_ends"), [("skip", 0, ""), ("queue", 1, ""), ("replace", 1, "superseded")]
)
def test_overlap(store: Store, clock: Clock, overlap: Overlap, others: int, first_ends: str) -> None:
    """While the last job is not finished a tick is skipped, makes another job, or replaces it."""
    scheduled(store, overlap=overlap)
    clock.tick()
    first = store.schedule("sched-1").last_job
    store.change_schedule("sched-1", lambda each: replace(each, next_ms=now_ms()))
    clock.tick()
    left = jobs(store)

    assert store.get(first).reason == first_ends
    assert len([job for job in left if job.id != first]) == others
    assert ("skip" in store.schedule("sched-1").note) == (overlap == "skip")


def test_no_overlap_after_the_end(store: Store, clock: Clock) -> None:
    """A job that has ended is in nobody's way."""
    scheduled(store)
    clock.tick()
    (first,) = jobs(store)
    store.finish(first.id, first.fence, SUCCESS)
    store.change_schedule("sched-1", lambda each: replace(each, next_ms=now_ms()))
    clock.tick()

    assert [job.status for job in jobs(store)] == [Status.ACTIVE]


def test_missed_ticks(store: Store, clock: Clock) -> None:
    """With catchUp none a tick that is late makes no job, and the note says so."""
    scheduled(store, due_ms_ago=1_800_000, catch_up="none")
    clock.tick()

    assert jobs(store) == []
    assert "catchUp" in store.schedule("sched-1").note


def test_a_template_that_is_refused(store: Store, clock: Clock) -> None:
    """A template that the settings do not allow any more makes no job; the note says why, and the schedule goes on."""
    scheduled(store)
    Clock(store, store.submit, intake.Bounds(0, 1)).tick()

    assert jobs(store) == []
    assert "accepted" in store.schedule("sched-1").note
    assert store.schedule("sched-1").next_ms > now_ms()


def test_started_and_stopped(store: Store) -> None:
    """A clock that runs finds a tick within its second; one that is stopped finds none."""
    clock = Clock(store, store.submit, BOUNDS, every_s=0.02)
    clock.start()
    clock.start()
    scheduled(store)
    deadline = time.monotonic() + 5
    while not store.schedule("sched-1").last_job:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    clock.stop()


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Iterator[Client]:
    return client(store, Shelf(tmp_path))


def made(api: Client, **body: Any) -> str:
    """The id of a new schedule."""
    return str(api.post_json("/api/schedules", {"cron": "0 3 * * *", "job": JOB, **body}).json["scheduleId"])


def test_life_of_a_schedule(api: Client, store: Store) -> None:
    """It is made, listed with its next runs, paused, resumed, run now, and removed; its secrets are never shown."""
    answer = api.post_json("/api/schedules", {"cron": "0 3 * * *", "timeZone": "Europe/Berlin", "job": JOB}, status=201)
    place = answer.headers["Location"]

    assert len(answer.json["nextRuns"]) == 5
    assert [each["scheduleId"] for each in api.get("/api/schedules").json["schedules"]] == [answer.json["scheduleId"]]
    assert "hush" not in api.get(place).text + api.get("/api/schedules").text
    assert api.post(f"{place}/pause").json["nextRuns"] == []
    assert len(api.post(f"{place}/resume").json["nextRuns"]) == 5
    run = api.post(f"{place}/run", headers={"Idempotency-Key": "a"}, status=201).json
    assert api.post(f"{place}/run", headers={"Idempotency-Key": "a"}, status=200).json["jobId"] == run["jobId"]
    assert store.get(run["jobId"]).status is Status.PENDING
    assert api.delete(place).json["removed"] is True
    for call in (api.get, api.delete):
        call(place, status=404)
    for action in ("pause", "resume", "run"):
        api.post(f"{place}/{action}", status=404)


def test_paused_makes_nothing(api: Client, store: Store, clock: Clock) -> None:
    """A paused schedule makes no jobs, and after it is resumed those of the time in between are not made up for."""
    schedule_id = made(api)
    api.post(f"/api/schedules/{schedule_id}/pause")
    store.change_schedule(schedule_id, lambda each: replace(each, next_ms=now_ms() - 1_000))
    clock.tick()
    api.post(f"/api/schedules/{schedule_id}/resume")
    clock.tick()

    assert jobs(store) == []
    assert store.schedule(schedule_id).next_ms > now_ms()


def test_mistakes_of_schedule_and_template(api: Client) -> None:
    """Mistakes of the schedule and of the job in it come together, each with its place."""
    body = {"cron": "x", "job": {"type": "build", "data": {"projectFiles": {"../a": "x"}}}}
    problem = api.post_json("/api/schedules", body, status=400).json

    assert {each["pointer"] for each in problem["errors"]} >= {"#/cron", "#/job/data/projectFiles/..~1a"}
    assert api.get("/api/schedules").json["schedules"] == []
