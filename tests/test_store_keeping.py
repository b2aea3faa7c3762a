"""Dead letters, removal, retention, repair, quarantine."""

from __future__ import annotations

import secrets

import pytest

from errors import JobNotFound, MoveRefused
from events import Try
from jobs import Artifact, Conclusion, Result, Status
from store import Retention, Store
from submission import Options
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, due, lines, next_job, request


def ended(store: Store, result: Result = SUCCESS) -> str:
    """The id of a job that has just ended, its webhook accepted."""
    job = claimed(store)
    store.finish(job.id, job.fence, result)
    for delivery in due(store):
        store.accept_delivery(delivery, Try(200))
    return job.id


def test_dead_letters(store: Store) -> None:
    """Jobs that failed by no fault of theirs are listed, newest first, in pages; others are not."""
    ended(store)
    ended(store, BROKEN)
    dead = [ended(store, FAULT) for _ in range(5)]

    first = store.dead_letters(limit=3)
    second = store.dead_letters(before=first[-1].cursor, limit=3)

    assert [letter.job.id for letter in [*first, *second]] == dead[::-1]
    assert first[0].job.reason == "runtime_unavailable"
    assert store.dead_letters(before=second[-1].cursor) == []


def test_poison_job_is_a_dead_letter(redis_url: str) -> None:
    """A job that lost its worker three times is listed with that reason and its last worker."""
    store = Store(redis_url, lease_ms=0)
    job = store.add(request())
    for worker in ("w1", "w2", "w3"):
        next_job(store, worker)
    store.tick()

    (letter,) = store.dead_letters()

    assert (letter.job.id, letter.job.reason, letter.job.attempts[-1]["worker"]) == (job.id, "worker_lost", "w3")


def test_discard(store: Store) -> None:
    """A discarded dead letter leaves the list; the job's record stays."""
    job_id = ended(store, FAULT)

    store.discard(job_id)

    assert store.dead_letters() == []
    assert store.get(job_id).status is Status.FAILED
    with pytest.raises(JobNotFound):
        store.discard(job_id)


def test_remove_leaves_nothing(store: Store) -> None:
    """A removed job leaves no key and no entry behind, whatever it had."""
    before = set(store._redis.keys("*"))
    options = Options(delay_ms=1, expires_in_ms=60_000, supersede=True)
    job = store.submit(request(chat_id="c"), options).job
    store._redis.zadd("cw:delayed:builds", {job.id: 1})
    running = next_job(store)
    store.progress(job.id, running.fence, 5, "preparing")
    store.append_log(job.id, running.fence, [lines(0, "hello\n")])
    store.finish(job.id, running.fence, FAULT)

    store.remove(job.id)

    left = {key.decode() for key in set(store._redis.keys("*")) - before}
    bells = {"cw:bell", "cw:outbox_bell:default"}
    counters = {"turn", "counters", "figures", "dead_number", "kept_bytes", "delivery_number", "lanes", "number"}
    assert left == bells | {f"cw:{name}" for name in counters | {"events"}}
    assert store._redis.get("cw:kept_bytes") == b"0"
    with pytest.raises(JobNotFound):
        store.get(job.id)


def test_only_finished_jobs_are_removed(store: Store) -> None:
    """A job that waits or runs is not removed; an unknown one is not found."""
    job = store.add(request())
    for _ in range(2):
        with pytest.raises(MoveRefused, match=job.id):
            store.remove(job.id)
        store.claim("w")

    with pytest.raises(JobNotFound):
        store.remove("job-unknown")
    assert store.get(job.id).status is Status.ACTIVE


def test_retention_by_number(store: Store) -> None:
    """With more finished jobs than are kept the oldest are prunable, in steps, whatever their queue and end."""
    ids = [ended(store, result) for result in (SUCCESS, FAULT, BROKEN, SUCCESS, BROKEN)]

    assert store.prunable(Retention(max_jobs=2)) == ids[:3]
    assert store.prunable(Retention(max_jobs=2), limit=2) == ids[:2]
    assert store.prunable(Retention(max_jobs=5)) == []
    assert store.prunable(Retention()) == []


def test_retention_by_age(store: Store) -> None:
    """Jobs that ended too long ago are prunable."""
    old, young = ended(store), ended(store)
    store._redis.zadd("cw:ended:builds:completed", {old: 1})

    assert store.prunable(Retention(max_age_ms=60_000)) == [old]
    store.remove(old)
    assert store.prunable(Retention(max_age_ms=60_000)) == []
    assert store.get(young).status is Status.COMPLETED


def test_retention_by_bytes(store: Store) -> None:
    """Requests, logs and artifacts count; as many of the oldest are prunable as make room."""
    big = Result(Conclusion.SUCCESS, artifacts=(Artifact("a", 1_000_000, "00"),))
    ids = [ended(store, big) for _ in range(3)]

    assert store.prunable(Retention(max_bytes=2_500_000)) == ids[:1]
    assert store.prunable(Retention(max_bytes=1_500_000)) == ids[:2]
    for job_id in ids:
        store.remove(job_id)
    assert store.prunable(Retention(max_bytes=1)) == []


def test_log_and_request_count_as_bytes(store: Store) -> None:
    """What a job occupies is its request, as it is kept, and its log, over all attempts."""
    job = claimed(store, files={"a": secrets.token_urlsafe(7_500)})  # 10,000 characters that cannot be packed
    store.append_log(job.id, job.fence, [lines(0, "y" * 5_000 + "\n")])
    store.finish(job.id, job.fence, SUCCESS)

    assert 15_000 < int(store._redis.get("cw:kept_bytes")) < 16_000


def test_undelivered_results_are_kept(store: Store) -> None:
    """A job whose result is still to be delivered is not prunable, and does not keep others from it."""
    job = claimed(store)
    store.finish(job.id, job.fence, SUCCESS)
    (delivery,) = due(store)
    done = ended(store)

    assert store.prunable(Retention(max_jobs=1)) == [done]
    store.give_up_delivery(delivery, Try(400))
    assert store.prunable(Retention(max_jobs=1)) == [job.id]
    store.remove(job.id)
    assert store.deliveries("exhausted") == []


@pytest.mark.parametrize("status", ["pending", "active", "completed"])
def test_torn_records_are_repaired(store: Store, status: str) -> None:
    """A record that its index has lost comes back: it waits, is taken over, or is counted."""
    job = store.add(request(chat_id="c"))
    store._redis.hset(f"cw:job:{job.id}", mapping={"status": status, "attempt": 1})
    store._redis.delete("cw:waiting:builds", "cw:flow:builds:5:c", "cw:ready:builds")

    store.tick()

    if status == "completed":
        assert store.stats()["builds"]["completed"] == 1
    else:
        assert next_job(store).id == job.id
    assert store.counters()["repaired"] == 1


def test_healthy_records_need_no_repair(store: Store) -> None:
    """Looking through records changes nothing about those that are well."""
    ended(store)
    claimed(store)
    store.submit(request(), Options(delay_ms=60_000))
    store.add(request())
    before = store.stats()

    store.tick()

    assert store.stats() == before
    assert "repaired" not in store.counters()


def test_unusable_records_are_set_aside(store: Store) -> None:
    """What stands where a record should, and is none, goes into quarantine; good jobs go on."""
    store._redis.set("cw:job:job-text", "garbage")
    store._redis.hset("cw:job:job-half", "status", "pending")
    foreign = {"status": "pending", "queue": "no queue", "type": "x", "priority": 1, "turn": 1, "chat_id": "c"}
    store._redis.hset("cw:job:job-foreign", mapping=foreign)
    store._redis.hset("cw:job:\udcff".encode(errors="surrogateescape"), "x", "y")
    good = store.add(request())

    store.tick()

    assert list(store._redis.keys("cw:job:*")) == [f"cw:job:{good.id}".encode()]
    assert {found["where"] for found in store.quarantined()} >= {"job job-text", "job job-half", "job job-foreign"}
    assert next_job(store).id == good.id


def test_unreadable_record_is_not_started(store: Store) -> None:
    """A claimed record that cannot be read goes into quarantine, and the next job is claimed."""
    bad = store.add(request())
    good = store.add(request())
    store._redis.hset(f"cw:job:{bad.id}", "metadata", "{broken")

    claim = store.claim("w")

    assert (claim.job, claim.wait_ms) == (None, 0)
    assert next_job(store).id == good.id
    (found,) = store.quarantined()
    assert (found["where"], "{broken" in found["raw"]) == (f"job {bad.id}", True)
    assert store.stats()["builds"]["active"] == 1
    with pytest.raises(JobNotFound):
        store.get(bad.id)


def test_quarantine_is_bounded(store: Store) -> None:
    """Findings are cut in length, kept newest first, and bounded in number."""
    for number in range(205):
        store.quarantine("somewhere", b"\xff" * 10_000, f"reason {number}")

    found = store.quarantined(limit=1000)

    assert len(found) == 200
    assert (found[0]["why"], found[0]["size"], found[0]["where"]) == ("reason 204", 10_000, "somewhere")
    assert found[0]["raw"] == "\\xff" * 4_000
