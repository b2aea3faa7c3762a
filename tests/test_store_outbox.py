"""Webhooks waiting to be sent."""

from __future__ import annotations

import time

import pytest

from jobs import Conclusion, Delivery, Reason, Result
from store import Rules, Store
from tests.store_cases import BROKEN, SUCCESS, claimed, request


def taken(store: Store, lease_ms: int = 30_000) -> list[Delivery]:
    """The deliveries that are due now."""
    return store.claim_deliveries("sender", 10, lease_ms)


def finished(store: Store) -> str:
    """The id of a job that has just ended."""
    job = claimed(store)
    store.finish(job.id, job.fence, SUCCESS)
    return job.id


def test_each_end_has_its_delivery(store: Store) -> None:
    """However a job ends, exactly one result delivery is due."""
    ended = [finished(store)]
    cancelled = store.add(request())
    ended.append(store.cancel(cancelled.id).id)
    failed = claimed(store)
    store.finish(failed.id, failed.fence, BROKEN)
    store.finish(failed.id, failed.fence, BROKEN)
    ended.append(failed.id)

    assert [(delivery.job_id, delivery.event) for delivery in taken(store)] == [(id_, "result") for id_ in ended]


def test_no_webhooks(redis_url: str) -> None:
    """A store without webhooks keeps no deliveries."""
    store = Store(redis_url, notify=False)
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, SUCCESS)

    assert taken(store) == []


def test_no_progress(redis_url: str) -> None:
    """A store that tells of ends only keeps deliveries for them, and none for progress."""
    store = Store(redis_url, rules=Rules(notify_progress=False))
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")

    assert taken(store) == []
    store.finish(job.id, job.fence, SUCCESS)
    assert [delivery.event for delivery in taken(store)] == ["result"]


def test_lease_of_a_delivery(store: Store) -> None:
    """A delivery is with one sender at a time; when its lease ends it is due again, under the same id."""
    finished(store)

    (first,) = taken(store, lease_ms=0)
    (second,) = taken(store)

    assert (second.id, second.job_id, second.created_ms) == (first.id, first.job_id, first.created_ms)
    assert (first.attempt, second.attempt) == (1, 2)
    assert taken(store) == []


def test_accepted_delivery_is_forgotten(store: Store) -> None:
    """An accepted delivery never comes back, even if its lease was over."""
    finished(store)
    (first,) = taken(store, lease_ms=0)
    (second,) = taken(store, lease_ms=0)

    store.accept_delivery(first)
    store.accept_delivery(second)

    assert taken(store) == []
    assert list(store._redis.scan_iter("cw:delivery:*")) == []


def test_retry_of_a_delivery(store: Store) -> None:
    """A failed delivery is due again after its delay, with the same id and the next attempt."""
    finished(store)
    (first,) = taken(store)

    store.retry_delivery(first, 60_000, "500")
    assert taken(store) == []
    store.retry_delivery(first, 0, "500")

    (second,) = taken(store)
    assert (second.id, second.attempt) == (first.id, 2)


def test_slow_sender_cannot_decide(store: Store) -> None:
    """A sender whose delivery was taken over can neither postpone nor end it."""
    finished(store)
    (first,) = taken(store, lease_ms=0)
    (second,) = taken(store, lease_ms=0)

    store.retry_delivery(first, 60_000, "late")
    store.give_up_delivery(first, "late")

    (third,) = taken(store)
    assert (third.id, third.attempt) == (second.id, 3)


def test_given_up_delivery(store: Store) -> None:
    """A delivery given up is not due any more, is counted, and keeps its note."""
    finished(store)
    (delivery,) = taken(store)

    store.give_up_delivery(delivery, "410 gone")

    assert taken(store) == []
    assert store.counters()["deliveries_given_up"] == 1
    assert store._redis.hget(f"cw:delivery:{delivery.id}", "note") == b"410 gone"


def test_one_pending_progress(store: Store) -> None:
    """A phase is told at once, percentages at most every two seconds, and never two are pending for a job."""
    job = claimed(store)

    store.progress(job.id, job.fence, 5, "preparing")
    store.progress(job.id, job.fence, 6, "preparing")
    (first,) = taken(store)
    store.accept_delivery(first)
    assert first.event == "progress"

    store.progress(job.id, job.fence, 7, "preparing")
    store.progress(job.id, job.fence, 8, "preparing")
    assert taken(store) == []
    assert len(store._redis.zrange("cw:outbox", 0, -1)) == 1

    store.progress(job.id, job.fence, 9, "building")
    (second,) = taken(store)
    assert (second.event, second.seq > first.seq, second.id != first.id) == ("progress", True, True)


def test_nothing_new_is_not_told(store: Store) -> None:
    """The same percentage and phase again is no event."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    taken(store)
    seq = store.get(job.id).seq

    store.progress(job.id, job.fence, 5, "preparing")

    assert store.get(job.id).seq == seq


def test_progress_ends_with_the_job(store: Store) -> None:
    """When a job ends its pending progress is dropped, and progress in flight is not sent again."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    (in_flight,) = taken(store)
    store.progress(job.id, job.fence, 50, "building")
    store.finish(job.id, job.fence, SUCCESS)
    store.retry_delivery(in_flight, 0, "500")

    (result,) = taken(store)
    assert result.event == "result"
    assert result.seq > in_flight.seq
    assert list(store._redis.scan_iter("cw:delivery:*")) == [f"cw:delivery:{result.id}".encode()]


def test_failed_progress_yields_to_newer(store: Store) -> None:
    """Progress that could not be sent is dropped if there is newer progress to tell."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    (old,) = taken(store)
    store.progress(job.id, job.fence, 50, "building")

    store.retry_delivery(old, 0, "500")

    (new,) = taken(store)
    assert new.id != old.id


@pytest.mark.parametrize("due", ["now", "later"])
def test_waiting_for_deliveries(store: Store, due: str) -> None:
    """A sender sleeps until something is due, not longer, and not at all if something is."""
    finished(store)
    if due == "later":
        (delivery,) = taken(store)
        store.wait_for_deliveries(0.01)  # the ring of the retry below must be the only one
        store.retry_delivery(delivery, 80, "500")
    deadline = time.monotonic() + 5

    started = time.monotonic()
    while not (again := taken(store)) and time.monotonic() < deadline:
        store.wait_for_deliveries(5)

    assert again
    assert time.monotonic() - started < 2


def test_idle_sender_sleeps(store: Store) -> None:
    """With nothing to send a sender is held for the time it asked for."""
    started = time.monotonic()

    store.wait_for_deliveries(0.05)

    assert time.monotonic() - started >= 0.04


def test_ids_are_derived_from_the_job(store: Store) -> None:
    """A delivery's id names its job and the event's number, so that a receiver can tell repetitions."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, Result(Conclusion.TIMEOUT, Reason.TIMEOUT))

    (delivery,) = taken(store)

    assert delivery.id == f"{job.id}-{delivery.seq}"
    assert store.get(job.id).seq == delivery.seq == 2
