"""Who owns a job: leases, fences, and what happens when a worker is gone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from errors import LeaseLost
from jobs import Job, Retry, Status
from store import Store
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, lines, next_job, request

WRITES: dict[str, Callable[[Store, Job], object]] = {
    "beat": lambda store, job: store.beat(job.id, job.fence),
    "progress": lambda store, job: store.progress(job.id, job.fence, 90, "collecting"),
    "append_log": lambda store, job: store.append_log(job.id, job.fence, [lines(0, "late\n")]),
    "finish": lambda store, job: store.finish(job.id, job.fence, SUCCESS),
    "retry": lambda store, job: store.finish(job.id, job.fence, FAULT, Retry(0, "again")),
    "release": lambda store, job: store.release(job.id, job.fence),
}


@pytest.fixture
def hasty(redis_url: str) -> Store:
    """A store whose leases are over as soon as they are given."""
    return Store(redis_url, lease_ms=0)


@pytest.mark.parametrize("write", WRITES)
def test_late_write_is_refused(hasty: Store, write: str) -> None:
    """Whatever a run writes after another worker took its job over is refused, counted, and changes nothing."""
    first = claimed(hasty)
    second = next_job(hasty, "second")
    before = hasty.get(first.id)

    with pytest.raises(LeaseLost):
        WRITES[write](hasty, first)

    assert hasty.get(first.id) == before
    assert hasty.log(first.id) == []
    assert hasty.counters()["stale_refused"] == 1
    assert (second.id, second.fence, second.attempt, second.stalls) == (first.id, 2, 2, 1)


@pytest.mark.parametrize("write", WRITES)
def test_write_after_the_end_is_refused(store: Store, write: str) -> None:
    """A run that has reported its end writes nothing more."""
    job = claimed(store)
    store.finish(job.id, job.fence, BROKEN)
    before = store.get(job.id)

    with pytest.raises(LeaseLost):
        WRITES[write](store, job)

    assert store.get(job.id) == before


def test_living_worker_keeps_its_job(redis_url: str) -> None:
    """A lease that is renewed in time is never taken over, however long the run lasts."""
    store = Store(redis_url, lease_ms=300)
    job = claimed(store)
    end = time.monotonic() + 0.7

    while time.monotonic() < end:
        store.beat(job.id, job.fence)
        assert store.claim("second").job is None
        time.sleep(0.02)

    store.finish(job.id, job.fence, SUCCESS)


def test_late_but_first(store: Store, hasty: Store) -> None:
    """A lease that ran out is renewed if nobody has asked for work meanwhile: the run is still the only one."""
    job = claimed(hasty)

    assert not store.beat(job.id, job.fence)
    assert store.claim("second").job is None


def test_idle_worker_wakes_for_a_lease(redis_url: str) -> None:
    """A worker that finds nothing is told to come back when the next lease may end."""
    store = Store(redis_url, lease_ms=500)
    claimed(store)

    assert store.claim("second").wait_ms <= 500


def test_takeover_is_recorded(hasty: Store) -> None:
    """The attempt of a lost worker is kept with its worker and reason."""
    claimed(hasty)

    (attempt,) = next_job(hasty, "second").attempts

    assert (attempt["worker"], attempt["reason"], attempt["decision"]) == ("w", "worker_lost", "retry")
    assert hasty.counters()["takeovers"] == 1


def test_poison_job_ends(hasty: Store) -> None:
    """A job that loses its worker three times fails for that reason, and the jobs behind it run."""
    poison = claimed(hasty)
    neighbour = hasty.add(hasty.request(poison.id))
    assert [next_job(hasty).id for _ in range(2)] == [poison.id, poison.id]

    assert next_job(hasty).id == neighbour.id

    ended = hasty.get(poison.id)
    assert (ended.status, ended.conclusion, ended.reason) == (Status.FAILED, "error", "worker_lost")
    assert [attempt["decision"] for attempt in ended.attempts] == ["retry", "retry", "final"]
    assert ended.fence == 3


def test_neighbours_of_a_poison_job_survive(store: Store) -> None:
    """Jobs that lost their workers together run one at a time on their last chance, so that only the cause fails."""
    poison, neighbour = store.add(request()), store.add(request())
    for _ in range(2):
        assert [next_job(store).id for _ in range(2)] == [poison.id, neighbour.id]
        for job in (poison, neighbour):
            store._redis.zadd("cw:active:builds", {job.id: 1})

    first = next_job(store)
    assert (first.id, store.claim("w").job) == (poison.id, None)
    store._redis.zadd("cw:active:builds", {poison.id: 1})
    store._redis.zadd("cw:delayed:builds", {neighbour.id: 1})

    second = next_job(store)
    assert second.id == neighbour.id
    store.finish(second.id, second.fence, SUCCESS)
    assert store.get(poison.id).reason == "worker_lost"
    assert store._redis.exists("cw:last_chance") == 0


def test_cancelled_job_of_a_lost_worker(hasty: Store) -> None:
    """A job whose cancellation was asked for ends when its worker is lost, instead of running again."""
    job = claimed(hasty)
    hasty.cancel(job.id, message="stop")

    assert hasty.claim("second").job is None

    ended = hasty.get(job.id)
    assert (ended.conclusion, ended.message) == ("cancelled", "stop")


def test_next_job_of_nobody(store: Store) -> None:
    """An idle worker is sent to sleep for at most a second, so that it notices lost workers on an idle system."""
    claim = store.claim("w")

    assert claim.job is None
    assert 0 < claim.wait_ms <= 1000
    assert store.claim("w").job is None


def test_fences_are_never_used_twice(store: Store) -> None:
    """Each claim of a job has a larger fence, whatever the run before it did."""
    job = claimed(store)
    fences = [job.fence]
    for _ in range(3):
        store.release(job.id, fences[-1])
        fences.append(next_job(store).fence)
    store.finish(job.id, fences[-1], FAULT, Retry(0, "again"))
    fences.append(next_job(store).fence)

    assert fences == [1, 2, 3, 4, 5]
