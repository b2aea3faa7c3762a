"""Webhooks waiting to be sent."""

from __future__ import annotations

import time

import pytest

from events import Event, Try
from jobs import Conclusion, Reason, Result, Retry
from store import Rules, Store
from submission import Options
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, due, next_job, request


def finished(store: Store) -> str:
    """The id of a job that has just ended."""
    job = claimed(store)
    store.finish(job.id, job.fence, SUCCESS)
    return job.id


def told_to(store: Store, *endpoints: str) -> str:
    """The id of a job that names these endpoints and has just ended."""
    job = store.submit(request(), Options(webhook=endpoints)).job
    store.finish(job.id, next_job(store).fence, SUCCESS)
    return job.id


def test_each_end_has_its_delivery(store: Store) -> None:
    """However a job ends, exactly one delivery is due, and its event says how."""
    ended = [(finished(store), Event.COMPLETED)]
    cancelled = store.add(request())
    ended.append((store.cancel(cancelled.id).id, Event.CANCELLED))
    failed = claimed(store)
    store.finish(failed.id, failed.fence, BROKEN)
    store.finish(failed.id, failed.fence, BROKEN)
    ended.append((failed.id, Event.FAILED))

    assert [(delivery.job_id, delivery.event) for delivery in due(store, limit=4)] == ended


def test_no_webhooks(redis_url: str) -> None:
    """A store without a default endpoint keeps deliveries of those jobs alone that name one."""
    store = Store(redis_url, notify=False)
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, SUCCESS)
    other = told_to(store, "other")

    assert due(store) == []
    assert [delivery.job_id for delivery in due(store, endpoint="other")] == [other]


def test_chosen_endpoints(store: Store) -> None:
    """A job is told to the endpoints that it names, to each under the same message id, and to no other."""
    job_id = told_to(store, "a", "b")
    told_to(store)

    (at_a,), (at_b,) = due(store, endpoint="a"), due(store, endpoint="b")

    assert due(store) == []
    assert at_a.message_id == at_b.message_id == f"{job_id}-1"
    assert at_a.id != at_b.id
    assert store.get(job_id).webhook == ("a", "b")
    assert store.rerun(job_id).webhook == ("a", "b")


def test_events_that_are_off(redis_url: str) -> None:
    """An event that is not told never reaches the outbox, and the job goes on as ever."""
    store = Store(redis_url, rules=Rules(events=frozenset({Event.FAILED})))
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, SUCCESS)

    assert (due(store), store.get(job.id).seq) == ([], 0)


def test_the_whole_story(redis_url: str) -> None:
    """With all events on, a job that is retried tells of each step, in order, as it was at that moment."""
    store = Store(redis_url, rules=Rules(events=frozenset(Event)))
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    told = due(store)
    store.finish(job.id, job.fence, FAULT, Retry(0, "again"))
    for delivery in told:
        store.accept_delivery(delivery, Try(200))
    told += due(store)
    again = next_job(store)
    store.finish(again.id, again.fence, SUCCESS)
    store.accept_delivery(told[-1], Try(200))
    told += due(store)

    steps = [(each.event.removeprefix("job."), each.news.status, each.news.attempt, each.news.phase) for each in told]
    assert steps == [
        ("queued", "pending", 0, ""),
        ("started", "active", 1, ""),
        ("progress", "active", 1, "preparing"),
        ("retrying", "pending", 1, "preparing"),
        ("started", "active", 2, ""),
        ("completed", "completed", 2, ""),
    ]
    assert [each.seq for each in told] == [1, 2, 3, 4, 5, 6]
    assert (told[3].news.reason, told[3].news.message) == (FAULT.reason, FAULT.message)


def test_takeover_is_told(redis_url: str) -> None:
    """A job that lost its worker is told to be tried again."""
    store = Store(redis_url, rules=Rules(events=frozenset({Event.RETRYING})))
    job = claimed(store)
    store._redis.zadd("cw:active:builds", {job.id: 1})
    store.tick()

    (delivery,) = due(store)

    assert (delivery.event, delivery.news.reason) == (Event.RETRYING, "worker_lost")


def test_lease_of_a_delivery(store: Store) -> None:
    """A delivery is with one sender at a time; when its lease ends it is due again, under the same id."""
    finished(store)

    (first,) = due(store, lease_ms=0)
    (second,) = due(store)

    assert (second.id, second.job_id, second.created_ms) == (first.id, first.job_id, first.created_ms)
    assert (first.attempt, second.attempt) == (1, 2)
    assert due(store) == []


def test_four_at_once(store: Store) -> None:
    """With all senders together, at most four deliveries are on their way to one endpoint; others are not held up."""
    for _ in range(6):
        told_to(store, "slow", "quick")

    first = due(store, endpoint="slow", limit=3) + due(store, endpoint="slow", limit=3)

    assert len(first) == 4
    assert store.claim_deliveries("slow", 3, 1000)[0] == []
    assert len(due(store, endpoint="quick")) == 4
    store.accept_delivery(first[0], Try(200))
    store.retry_delivery(first[1], 60_000, Try(500))
    assert len(due(store, endpoint="slow")) == 2


def test_full_lane_does_not_spin(store: Store) -> None:
    """A sender that finds all four on their way is told to wait, although more is due."""
    for _ in range(5):
        finished(store)
    due(store)

    assert store.claim_deliveries("default", 1, 1000) == ([], 1000)


def test_accepted_delivery(store: Store) -> None:
    """An accepted delivery never comes back, even if its lease was over and its first sender thinks it failed."""
    finished(store)
    (first,) = due(store, lease_ms=0)
    (second,) = due(store, lease_ms=0)

    store.accept_delivery(first, Try(200))
    store.retry_delivery(second, 0, Try(500))
    store.give_up_delivery(second, Try(400))

    assert due(store) == []
    assert [each.state for each in store.deliveries_of(first.job_id)] == ["accepted"]


def test_retry_of_a_delivery(store: Store) -> None:
    """A failed delivery is due again after its delay and no sooner, with the same id and the next attempt."""
    finished(store)
    (first,) = due(store, lease_ms=0)
    (second,) = due(store)

    store.retry_delivery(second, 60_000, Try(500))
    assert due(store) == []
    store._redis.zadd("cw:outbox:default", {first.id: 1})

    (third,) = due(store)
    assert (third.id, third.message_id, third.attempt) == (first.id, first.message_id, 3)


def test_slow_sender_cannot_decide(store: Store) -> None:
    """A sender whose delivery was taken over can neither postpone nor end it, nor disable its endpoint."""
    finished(store)
    (first,) = due(store, lease_ms=0)
    (second,) = due(store, lease_ms=0)

    store.retry_delivery(first, 60_000, Try(500))
    store.give_up_delivery(first, Try(400))
    store.disable_endpoint(first, Try(410))

    (third,) = due(store)
    assert (third.id, third.attempt) == (second.id, 3)


def test_resent_delivery_has_another_fence(store: Store) -> None:
    """A sender from before a delivery was resent cannot decide about it, though both count their first try."""
    finished(store)
    (first,) = due(store)
    store.give_up_delivery(first, Try(400))
    store.resend(first.id)
    (second,) = due(store, lease_ms=0)

    store.give_up_delivery(first, Try(400))

    assert (first.attempt, second.attempt) == (1, 1)
    assert [each.id for each in due(store)] == [first.id]


def test_given_up_delivery(store: Store) -> None:
    """A delivery given up is not due any more, and is counted."""
    finished(store)
    (delivery,) = due(store)

    store.give_up_delivery(delivery, Try(400))

    assert due(store) == []
    assert store.counters()["deliveries_given_up"] == 1


def test_disabled_endpoint(store: Store) -> None:
    """An endpoint that is gone gets nothing more; what comes meanwhile waits, and goes out once it is enabled."""
    told_to(store, "gone")
    (refused,) = due(store, endpoint="gone")
    store.disable_endpoint(refused, Try(410, 3, "HTTP 410"))
    later = told_to(store, "gone")
    finished(store)

    assert store.claim_deliveries("gone", 1, 1000) == ([], 1000)
    assert len(due(store)) == 1
    store.enable_endpoint("gone")
    again = due(store, endpoint="gone")
    assert [each.job_id for each in again] == [refused.job_id, later]
    assert again[0].message_id == refused.message_id


def test_one_waiting_progress(store: Store) -> None:
    """A phase is told at once, percentages at most every two seconds, and never two wait for a job."""
    job = claimed(store)

    store.progress(job.id, job.fence, 5, "preparing")
    store.progress(job.id, job.fence, 6, "preparing")
    (first,) = due(store)
    store.accept_delivery(first, Try(200))
    assert (first.event, first.news.progress) == (Event.PROGRESS, 6)

    store.progress(job.id, job.fence, 7, "preparing")
    store.progress(job.id, job.fence, 8, "preparing")
    assert due(store) == []
    assert len(store._redis.zrange("cw:outbox:default", 0, -1)) == 1

    store.progress(job.id, job.fence, 9, "building")
    (second,) = due(store)
    assert (second.event, second.seq > first.seq, second.id != first.id) == (Event.PROGRESS, True, True)
    assert (second.news.progress, second.news.phase) == (9, "building")


def test_progress_does_not_pile_up(store: Store) -> None:
    """For an endpoint that nobody serves, one progress of a job waits, however much of it there was."""
    job = store.submit(request(), Options(webhook=("dead", "alive"))).job
    fence = next_job(store).fence

    for percent, phase in enumerate(["preparing", "installing", "building", "collecting"]):
        store.progress(job.id, fence, percent, phase)
        for delivery in due(store, endpoint="alive"):
            store.accept_delivery(delivery, Try(200))

    (waiting,) = due(store, endpoint="dead")
    assert waiting.news.phase == "collecting"


def test_nothing_new_is_not_told(store: Store) -> None:
    """The same percentage and phase again is no event."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    due(store)
    seq = store.get(job.id).seq

    store.progress(job.id, job.fence, 5, "preparing")

    assert store.get(job.id).seq == seq


def test_progress_ends_with_the_job(store: Store) -> None:
    """When a job ends its waiting progress is dropped, and progress in flight is not sent again."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    (in_flight,) = due(store)
    store.progress(job.id, job.fence, 50, "building")
    store.finish(job.id, job.fence, SUCCESS)
    store.retry_delivery(in_flight, 0, Try(500))

    (result,) = due(store)
    assert result.event is Event.COMPLETED
    assert result.seq > in_flight.seq
    assert list(store._redis.scan_iter("cw:delivery:*")) == [f"cw:delivery:{result.id}".encode()]


def test_settled_progress_is_forgotten(store: Store) -> None:
    """Progress leaves nothing behind, whether it was accepted or not."""
    job = claimed(store)
    for phase, settle in (("preparing", store.accept_delivery), ("building", store.give_up_delivery)):
        store.progress(job.id, job.fence, 5, phase)
        (delivery,) = due(store)
        settle(delivery, Try(200))

    assert list(store._redis.scan_iter("cw:delivery:*")) == []
    assert store.deliveries_of(job.id) == []


def test_broken_delivery_is_dropped(store: Store) -> None:
    """A delivery that cannot be read neither stops the others nor holds a place on the way."""
    for _ in range(5):
        finished(store)
    for name in store._redis.zrange("cw:outbox:default", 0, 2):
        store._redis.hset(f"cw:delivery:{name.decode()}", "event", "no event")
    (fourth,) = store._redis.zrange("cw:outbox:default", 3, 3)
    store._redis.hset(f"cw:delivery:{fourth.decode()}", "created_ms", "soon")

    assert len(due(store)) == 1
    assert store.lanes()["default"].pending == 1


@pytest.mark.parametrize("moment", ["now", "later"])
def test_waiting_for_deliveries(store: Store, moment: str) -> None:
    """A sender sleeps until something is due, not longer, and not at all if something is."""
    finished(store)
    if moment == "later":
        (delivery,) = due(store)
        store.wait_for_deliveries("default", 0.01)  # the ring of the retry below must be the only one
        store.retry_delivery(delivery, 80, Try(500))
    deadline = time.monotonic() + 5

    started = time.monotonic()
    again, wait_ms = store.claim_deliveries("default", 1, 30_000)
    while not again and time.monotonic() < deadline:
        store.wait_for_deliveries("default", wait_ms / 1000)
        again, wait_ms = store.claim_deliveries("default", 1, 30_000)

    assert again
    assert time.monotonic() - started < 0.9


def test_a_place_that_is_free_wakes_a_sender(store: Store) -> None:
    """Where four were on their way and more is due, the end of one wakes a sender that waits."""
    for _ in range(5):
        finished(store)
    first, *_ = due(store)
    store.wait_for_deliveries("default", 0.01)
    store.accept_delivery(first, Try(200))

    started = time.monotonic()
    store.wait_for_deliveries("default", 5)

    assert time.monotonic() - started < 1


def test_idle_sender_sleeps(store: Store) -> None:
    """With nothing to send a sender is held for the time it asked for."""
    started = time.monotonic()

    store.wait_for_deliveries("default", 0.05)

    assert time.monotonic() - started >= 0.04


def test_ids_are_derived_from_the_job(store: Store) -> None:
    """A message's id names its job and the event's number, so that a receiver can tell repetitions."""
    job = claimed(store)
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, Result(Conclusion.TIMEOUT, Reason.TIMEOUT))

    (delivery,) = due(store)

    assert delivery.message_id == f"{job.id}-{delivery.seq}"
    assert store.get(job.id).seq == delivery.seq == 2
