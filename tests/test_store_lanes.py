"""The delivery log: what is kept of deliveries, how they are listed and resent, and how it stands with an endpoint."""

from __future__ import annotations

import pytest

from errors import NotFound
from events import Try
from jobs import Job
from store import Lane, Retention, Store
from submission import Options
from tests.store_cases import SUCCESS, due, next_job, request


def ended(store: Store, *endpoints: str) -> Job:
    """A job that has just ended and is told to these endpoints."""
    job = store.submit(request(), Options(webhook=endpoints or ("default",))).job
    store.finish(job.id, next_job(store).fence, SUCCESS)
    return store.get(job.id)


def test_tries_are_kept(store: Store) -> None:
    """Each try of a delivery is kept with moment, status, duration and note; the last twenty of them."""
    job = ended(store)
    for number in range(25):
        (delivery,) = due(store)
        store.retry_delivery(delivery, 0, Try(500, number, f"note {number} ä" + "x" * 1_000))

    (listed,) = store.deliveries_of(job.id)

    assert [each["duration_ms"] for each in listed.tries] == list(range(5, 25))
    assert listed.to_json()["tries"][0]["status"] == 500
    assert listed.tries[0]["note"].startswith("note 5 äx")
    assert len(listed.tries[0]["note"]) == 500
    assert listed.tries[-1]["at_ms"] >= listed.delivery.created_ms > 0


def test_states(store: Store) -> None:
    """A delivery is pending with the moment of its next try, then accepted or exhausted without one."""
    job = ended(store, "a", "b", "c")
    (at_a,), (at_b,) = due(store, endpoint="a"), due(store, endpoint="b")
    store.accept_delivery(at_a, Try(200))
    store.give_up_delivery(at_b, Try(400))

    listed = store.deliveries_of(job.id)

    assert [(each.delivery.endpoint, each.state, each.due_ms > 0) for each in listed] == [
        ("a", "accepted", False), ("b", "exhausted", False), ("c", "pending", True)
    ]  # fmt: skip
    for state, endpoint in (("accepted", "a"), ("exhausted", "b"), ("pending", "c")):
        assert [each.delivery.endpoint for each in store.deliveries(state)] == [endpoint]


def test_pages(store: Store) -> None:
    """A list is newest first over all endpoints; its pages join without a gap, whatever is added meanwhile."""
    made = [ended(store, endpoint).id for endpoint in "abcabcab"]
    seen: list[str] = []
    cursor = None
    while page := store.deliveries("pending", cursor, limit=3):
        seen += [each.delivery.job_id for each in page]
        cursor = page[-1].cursor
        ended(store, "b")

    assert seen == made[::-1]


@pytest.mark.parametrize("state", ["accepted", "exhausted"])
def test_resend(store: Store, state: str) -> None:
    """A settled delivery can be sent again: at once, under its old id, with all its tries; its history stays."""
    job = ended(store)
    (first,) = due(store)
    settle = store.accept_delivery if state == "accepted" else store.give_up_delivery
    settle(first, Try(200))

    store.resend(first.id)

    (again,) = due(store)
    assert (again.id, again.message_id, again.attempt) == (first.id, first.message_id, 1)
    assert store.deliveries(state) == []
    settle(again, Try(200))
    (listed,) = store.deliveries_of(job.id)
    assert (listed.state, len(listed.tries)) == (state, 2)


def test_resend_of_a_pending_delivery(store: Store) -> None:
    """One that waits for its next try is due at once; one that is on its way stays there."""
    ended(store)
    (first,) = due(store)
    store.resend(first.id)
    assert due(store) == []

    store.retry_delivery(first, 60_000, Try(500))
    store.resend(first.id)

    assert [each.attempt for each in due(store)] == [2]


def test_resend_of_nothing(store: Store) -> None:
    """An unknown delivery cannot be resent, nor one whose job was removed."""
    job = ended(store)
    (delivery,) = due(store)
    store.accept_delivery(delivery, Try(200))
    store.remove(job.id)

    for name in (delivery.id, "", "x", "job-1-1.default"):
        with pytest.raises(NotFound):
            store.resend(name)


def test_removed_job_leaves_no_deliveries(store: Store) -> None:
    """With its job everything about a delivery is forgotten, and its sender's late news changes nothing."""
    job = ended(store, "a", "b")
    (delivery,) = due(store, endpoint="a")
    store.remove(job.id)
    store.accept_delivery(delivery, Try(200))

    left = {name.decode().split(":")[1] for name in store._redis.keys("cw:*")}
    assert not left & {"delivery", "told", "pending", "accepted", "exhausted", "outbox", "posting"}


def test_disabled_endpoints_hold_no_job(store: Store) -> None:
    """Retention waits for receivers that may come back, not for one that is gone for good."""
    job = ended(store)
    (delivery,) = due(store)
    ended(store)
    everything = Retention(max_jobs=1)
    assert store.prunable(everything) == []

    store.disable_endpoint(delivery, Try(410))

    assert store.prunable(everything) == [job.id]


def test_how_it_stands(store: Store) -> None:
    """An endpoint shows what is pending and exhausted, the age of the oldest, the last try, and why it is disabled."""
    assert store.lanes(["default"]) == {"default": Lane()}
    for _ in range(3):
        ended(store)
    first, second, third = due(store)
    store.give_up_delivery(first, Try(400, 1, "no"))
    store.accept_delivery(second, Try(200, 1, "fine"))
    oldest = store._redis.hget(f"cw:delivery:{first.id}", "created_ms")

    lane = store.lanes()["default"]

    assert (lane.pending, lane.exhausted, lane.last_status, lane.last_note) == (1, 1, 200, "fine")
    assert lane.last_ms == lane.accepted_ms >= int(oldest or 0)
    store._redis.hset(f"cw:delivery:{third.id}", "created_ms", int(oldest or 0) - 60_000)
    assert 60_000 <= store.lanes()["default"].lag_ms < 70_000

    store.disable_endpoint(third, Try(410, 1, "HTTP 410 gone"))
    shown = store.lanes()["default"].to_json()
    assert shown["disabled"]["note"] == "HTTP 410 gone"
    store.enable_endpoint("default")
    assert store.lanes()["default"].disabled_ms == 0
