"""Pausing, draining, chat limits, ageing, workers, and why a job waits."""

from __future__ import annotations

import time

import pytest

from errors import QueueFull
from jobs import JobType
from store import Closure, Rules, Store
from submission import Options
from tests.store_cases import SUCCESS, claimed, next_job, request


def test_pause(store: Store) -> None:
    """A paused queue starts nothing, says why, and goes on when it is resumed; others are not affected."""
    build = store.add(request())
    test = store.add(request(JobType.TEST))

    store.pause("builds", "maintenance | until noon")

    assert next_job(store).id == test.id
    assert store.claim("w").job is None
    (paused,) = store.closures().paused.items()
    assert paused == ("builds", Closure("maintenance | until noon", paused[1].since_ms))
    assert paused[1].since_ms >= build.created_ms
    store.resume("builds")
    assert next_job(store).id == build.id
    assert store.closures().paused == {}


def test_paused_queue_lets_workers_sleep(store: Store) -> None:
    """Jobs in a paused queue wake nobody; resuming wakes a worker."""
    store.pause()
    store.add(request())
    store.wait_for_work("other", 1)
    store.claim("w")
    started = time.monotonic()
    store.wait_for_work("other", 0.05)
    assert time.monotonic() - started >= 0.04

    store.resume()
    started = time.monotonic()
    store.wait_for_work("other", 5)
    assert time.monotonic() - started < 2


def test_drain(store: Store) -> None:
    """A draining queue takes nothing in and says why; what waits in it still runs."""
    job = store.add(request())

    store.drain("builds", "moving house")

    with pytest.raises(QueueFull, match="moving house"):
        store.add(request())
    store.add(request(JobType.TEST))
    assert {next_job(store).id for _ in range(2)} > {job.id}
    assert store.closures().draining["builds"].reason == "moving house"
    store.resume()
    assert store.submit(request(), Options()).created


def test_all_queues(store: Store) -> None:
    """Pause and drain of all queues hold for each; resuming all also opens those closed one by one."""
    store.add(request(JobType.LINT))
    store.pause()
    store.pause("tests")
    store.drain()

    assert store.claim("w").job is None
    with pytest.raises(QueueFull):
        store.add(request(JobType.TEST))
    store.resume()

    assert store.claim("w").job is not None
    assert (store.closures().paused, store.closures().draining) == ({}, {})
    with pytest.raises(ValueError, match="no queue"):
        store.pause("bilds")


def test_chat_limit(redis_url: str) -> None:
    """A chat runs at most as many jobs as the limit says; the next one starts when one of them ends."""
    store = Store(redis_url, rules=Rules(chat_limit=2))
    for kind in (JobType.BUILD, JobType.TEST, JobType.BUILD, JobType.LINT, JobType.BUILD):
        store.add(request(kind, chat_id="busy"))
    other = store.add(request(chat_id="other"))
    running = [next_job(store) for _ in range(3)]

    assert [job.chat_id for job in running].count("busy") == 2
    assert other.id in {job.id for job in running}
    assert store.claim("w").job is None

    first, second = (job for job in running if job.chat_id == "busy")
    store.finish(first.id, first.fence, SUCCESS)
    third = next_job(store)
    assert third.chat_id == "busy"
    assert store.claim("w").job is None
    store.release(second.id, second.fence)
    second = next_job(store)
    assert (second.chat_id, second.fence, store.claim("w").job) == ("busy", 2, None)
    for job in (second, third):
        store.finish(job.id, job.fence, SUCCESS)
    for job in (next_job(store), next_job(store)):
        store.finish(job.id, job.fence, SUCCESS)
    assert store._redis.keys("cw:held:*") + store._redis.keys("cw:ready:*") + store._redis.keys("cw:flow:*") == []


def test_jobs_without_a_chat_have_no_limit(redis_url: str) -> None:
    """The limit is per chat: jobs that name none are not held back."""
    store = Store(redis_url, rules=Rules(chat_limit=1))
    for _ in range(3):
        store.add(request())

    assert {next_job(store).status for _ in range(3)} == {"active"}


def test_freed_chat_takes_its_turn(redis_url: str) -> None:
    """A chat that was at its limit stands behind the others when one of its runs ends."""
    store = Store(redis_url, rules=Rules(chat_limit=1))
    for chat in ("a", "a", "b", "b"):
        store.add(request(chat_id=chat))
    first = next_job(store)
    assert first.chat_id == "a"
    second = next_job(store)
    assert (second.chat_id, store.claim("w").job) == ("b", None)
    store.add(request(chat_id="c"))

    store.finish(first.id, first.fence, SUCCESS)

    assert next_job(store).chat_id == "c"
    assert next_job(store).chat_id == "a"


def test_ageing(store: Store) -> None:
    """A job of the lowest priority that has waited too long starts within four claims, whatever else waits."""
    low = store.add(request(priority=1))
    for _ in range(20):
        store.add(request(priority=20))
    assert low.id not in [next_job(store).id for _ in range(8)]

    store._redis.zadd("cw:waiting:builds", {low.id: 1})  # as if added long ago

    assert low.id in [next_job(store).id for _ in range(4)]


def test_ageing_keeps_turns(store: Store) -> None:
    """Ageing lifts a priority, not a chat: within one priority chats still take turns, however old their jobs."""
    for _ in range(8):
        job = store.add(request(JobType.TEST, chat_id="old"))
        store._redis.zadd("cw:waiting:tests", {job.id: 1})
    for _ in range(8):
        store.add(request(chat_id="new"))

    assert [next_job(store).chat_id for _ in range(16)] == ["old", "new"] * 8


def test_waiting_for_a_delay(store: Store) -> None:
    """A delayed job waits for its moment."""
    job = store.submit(request(), Options(delay_ms=60_000)).job

    waiting = store.waiting(job.id)

    assert waiting is not None
    assert waiting.blocked_by == "delay"


def test_waiting_for_a_worker(store: Store) -> None:
    """Without a living worker nobody knows when a job starts; a worker that comes frees it, one that stops does not."""
    job = store.add(request())

    alone = store.waiting(job.id)
    store.heartbeat("w1", 2)
    served = store.waiting(job.id)
    store.worker_gone("w1")

    assert alone is not None
    assert served is not None
    assert (alone.ahead, alone.blocked_by, alone.estimated_start_ms) == (0, "no_worker", 0)
    assert (served.blocked_by, served.estimated_start_ms > 0) == ("none", True)
    assert store.waiting(job.id) == alone


def test_silent_worker_counts_as_gone(redis_url: str) -> None:
    """A worker that has not been heard of for the time of a lease is forgotten."""
    store = Store(redis_url, lease_ms=0)
    store.heartbeat("w1", 2)
    job = store.add(request())

    assert store.waiting(job.id).blocked_by == "no_worker"  # type: ignore[union-attr]
    store.tick()
    assert store._redis.exists("cw:workers", "cw:slots") == 0


def test_waiting_for_slots(store: Store) -> None:
    """With all slots taken a job waits for those before it, and starts after as many average runs as that takes."""
    store.heartbeat("w1", 1)
    done = claimed(store)
    store._redis.hset(f"cw:job:{done.id}", "attempt_started_ms", done.started_ms - 10_000)
    store.finish(done.id, done.fence, SUCCESS)
    for _ in range(3):
        store.add(request())
    last = store.add(request())
    next_job(store)

    waiting = store.waiting(last.id)

    assert waiting is not None
    assert (waiting.ahead, waiting.blocked_by) == (2, "slots")
    assert 29_000 < waiting.estimated_start_ms - last.created_ms < 32_000
    assert waiting.to_json()["position"] == 3


def test_estimates_follow_recent_runs(store: Store) -> None:
    """What a run takes is a moving average: one long run counts a fifth."""
    for duration_ms in (1_000, 11_000):
        job = claimed(store)
        store._redis.hset(f"cw:job:{job.id}", "attempt_started_ms", job.started_ms - duration_ms)
        store.finish(job.id, job.fence, SUCCESS)

    pace = {name: int(value) for name, value in store._redis.hgetall("cw:pace").items()}

    assert set(pace) == {b"build", b"*"}
    assert all(3_000 <= value < 3_200 for value in pace.values())


def test_waiting_for_the_chat(redis_url: str) -> None:
    """A job whose chat runs as many as it may waits for one of them."""
    store = Store(redis_url, rules=Rules(chat_limit=1))
    store.heartbeat("w1", 8)
    claimed(store, chat_id="c")
    job = store.add(request(chat_id="c"))
    store.claim("w")

    waiting = store.waiting(job.id)

    assert waiting is not None
    assert (waiting.blocked_by, waiting.detail) == ("chat_limit", "1")


def test_waiting_for_a_pause_to_end(store: Store) -> None:
    """A job in a paused queue says why that is paused."""
    store.heartbeat("w1", 8)
    job = store.add(request())
    store.pause("builds", "maintenance")

    waiting = store.waiting(job.id)

    assert waiting is not None
    assert (waiting.blocked_by, waiting.detail, waiting.estimated_start_ms) == ("paused", "maintenance", 0)


def test_position_is_the_order_of_claims(store: Store) -> None:
    """The number of jobs ahead is exactly the number that is claimed before, over priorities, queues and chats."""
    jobs = [
        store.add(request(kind, chat_id=chat, priority=priority))
        for number, (kind, chat, priority) in enumerate(
            (kind, chat, priority)
            for priority in (5, 9)
            for chat in ("a", "b", "")
            for kind in (JobType.BUILD, JobType.TEST, JobType.BUILD)
        )
        if number % 7
    ]
    next_job(store)
    next_job(store)
    expected = {job.id: place.ahead for job in jobs if (place := store.waiting(job.id))}

    order = [next_job(store).id for _ in expected]

    assert {job_id: order.index(job_id) for job_id in expected} == expected


def test_only_pending_jobs_wait(store: Store) -> None:
    """Active and unknown jobs wait for nothing."""
    job = claimed(store)

    assert store.waiting(job.id) is None
    assert store.waiting("job-unknown") is None
