"""How jobs come in: once, later, instead of others, or not at all."""

from __future__ import annotations

import threading

import pytest

from errors import IdempotencyConflict, JobNotFound, QueueFull, StoreUnavailable
from jobs import Job, JobType, Reason, Status
from store import Rules, Store
from submission import Options, RetryRule
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, due, next_job, request

KEY = Options(idempotency_key="key-1", body_hash="hash-1")


def only_job(store: Store) -> Job:
    """The one job that waits."""
    stats = store.stats()
    assert sum(queue["waiting"] for queue in stats.values()) == 1
    return next_job(store)


def test_options_are_kept(store: Store) -> None:
    """Tags, metadata and the retry rule are part of the record."""
    rule = RetryRule(3, (Reason.TESTS_FAILED, Reason.OUT_OF_MEMORY), delay_ms=500, backoff="fixed")
    options = Options(tags=("a", "b"), metadata={"n": [1, None, {"ä": True}]}, retry=rule)

    job = store.submit(request(), options).job

    kept = store.get(job.id)
    assert (kept.tags, kept.metadata, kept.retry) == (options.tags, options.metadata, rule)
    assert kept.to_json()["retry"] == rule.to_json()


def test_same_key_same_job(store: Store) -> None:
    """Fifty submissions at once with the same key and body lead to one job."""
    ids: list[str] = []
    created: list[bool] = []

    def submit() -> None:
        submitted = store.submit(request(), KEY)
        ids.append(submitted.job.id)
        created.append(submitted.created)

    threads = [threading.Thread(target=submit) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 50
    assert set(ids) == {only_job(store).id}
    assert created.count(True) == 1


def test_lost_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that is sent again because its answer was lost leads to one job, which counts as created."""
    monkeypatch.setattr("store.admission.new_id", lambda: "job-1")

    first, second = (store.submit(request(chat_id="c"), Options(supersede=True)) for _ in range(2))

    assert first == second
    assert (first.created, only_job(store).cancel_reason) == (True, "")


def test_key_outlives_the_job(store: Store) -> None:
    """The key answers the same job also when that has ended; it is forgotten after a day."""
    job = store.submit(request(), KEY).job
    store.cancel(job.id)

    again = store.submit(request(), KEY)

    assert (again.job.id, again.job.status, again.created) == (job.id, Status.FAILED, False)
    assert 0 < store._redis.pttl("cw:idempotency:key-1") <= 86_400_000


def test_same_key_other_body(store: Store) -> None:
    """A key that was used with another body is refused, and nothing is stored."""
    job = store.submit(request(), KEY).job

    with pytest.raises(IdempotencyConflict, match=job.id):
        store.submit(request(), Options(idempotency_key="key-1", body_hash="hash-2"))

    assert only_job(store).id == job.id


def test_key_of_a_removed_job(store: Store) -> None:
    """Once its job was removed a key makes a new one."""
    job = store.submit(request(), KEY).job
    store.cancel(job.id)
    store.remove(job.id)

    assert store.submit(request(), KEY).created


def test_same_fingerprint(store: Store) -> None:
    """The same submission again answers the job that is not finished, and makes a new one after its end."""
    options = Options(fingerprint="f")
    first = store.submit(request(), options)

    assert store.submit(request(), options).job.id == first.job.id
    running = next_job(store)
    assert store.submit(request(), options).job.id == first.job.id
    store.finish(running.id, running.fence, SUCCESS)

    assert store.submit(request(), options).created
    assert 0 < store._redis.pttl("cw:fingerprint:f") <= 60_000


def test_delay(store: Store) -> None:
    """A delayed job is not claimed before its time, and knows it."""
    job = store.submit(request(), Options(delay_ms=60_000)).job

    assert store.claim("w").job is None
    assert store.stats()["builds"]["delayed"] == 1
    assert job.run_at_ms == job.created_ms + 60_000
    store._redis.zadd("cw:delayed:builds", {job.id: 1})
    assert next_job(store).id == job.id


def test_run_at(store: Store) -> None:
    """A moment in the future delays, one in the past does not; a cancelled delayed job is gone."""
    past = store.submit(request(), Options(run_at_ms=1))
    future = store.submit(request(), Options(run_at_ms=past.job.created_ms + 3_600_000))

    assert only_job(store).id == past.job.id
    assert store.cancel(future.job.id).status is Status.FAILED
    assert store.stats()["builds"]["delayed"] == 0


def test_expiry(store: Store) -> None:
    """A job that did not start in time fails as expired, waiting or delayed; it is never claimed."""
    waiting = store.submit(request(), Options(expires_in_ms=60_000)).job
    delayed = store.submit(request(), Options(expires_in_ms=60_000, delay_ms=60_000)).job
    unlisted = store.submit(request(), Options(expires_in_ms=60_000)).job
    assert waiting.expires_at_ms == waiting.created_ms + 60_000
    store._redis.zadd("cw:expiring", {waiting.id: 1, delayed.id: 1})
    store._redis.zrem("cw:expiring", unlisted.id)
    store._redis.hset(f"cw:job:{unlisted.id}", "expires_at_ms", 1)

    assert store.claim("w").job is None

    for job in (waiting, delayed, unlisted):
        ended = store.get(job.id)
        assert (ended.status, ended.conclusion, ended.reason) == (Status.FAILED, "expired", "expired")
    assert [delivery.event for delivery in due(store)] == ["job.failed"] * 3


def test_started_job_does_not_expire(store: Store) -> None:
    """A job that started in time is not ended by its expiry, even if its run hands it back."""
    job = store.submit(request(), Options(expires_in_ms=60_000)).job
    running = next_job(store)
    store._redis.hset(f"cw:job:{job.id}", "expires_at_ms", 1)
    store.release(job.id, running.fence)

    store.tick()

    assert next_job(store).id == job.id


def test_ended_job_does_not_expire(store: Store) -> None:
    """What was started or cancelled in time is no longer looked at when its time is over."""
    cancelled = store.submit(request(), Options(expires_in_ms=60_000)).job
    store.cancel(cancelled.id)
    store.submit(request(), Options(expires_in_ms=60_000))
    next_job(store)

    assert store._redis.zcard("cw:expiring") == 0


def test_supersede(store: Store) -> None:
    """A job that supersedes ends the chat's waiting jobs of its type and asks running ones to stop, no others."""
    running = claimed(store, chat_id="c")
    waiting = store.add(request(chat_id="c"))
    others = [
        store.add(request(chat_id="other")),
        store.add(request(JobType.TEST, chat_id="c")),
        store.add(request()),
    ]

    newest = store.submit(request(chat_id="c"), Options(supersede=True)).job

    assert store.beat(running.id, running.fence)
    assert store.get(running.id).cancel_reason == "superseded"
    ended = store.get(waiting.id)
    assert (ended.status, ended.reason, newest.id in ended.message) == (Status.FAILED, "superseded", True)
    assert [store.get(job.id).status for job in [*others, newest]] == [Status.PENDING] * 4
    assert not store.get(newest.id).cancel_reason


def test_finished_jobs_are_not_superseded(store: Store) -> None:
    """Jobs that have ended stay as they are, and leave nothing behind among the chat's unfinished ones."""
    done = claimed(store, chat_id="c")
    store.finish(done.id, done.fence, BROKEN)
    before = store.get(done.id)

    store.submit(request(chat_id="c"), Options(supersede=True))

    assert store.get(done.id) == before
    assert store._redis.scard("cw:unfinished:build:c") == 1


def test_full_queue(redis_url: str) -> None:
    """A queue at its bound takes nothing more, delayed jobs counted; other queues and known jobs are not affected."""
    store = Store(redis_url, rules=Rules(queue_bound=2))
    store.submit(request(), KEY)
    store.submit(request(chat_id="c"), Options(delay_ms=60_000))
    size = store._redis.dbsize()

    with pytest.raises(QueueFull) as refused:
        store.add(request())

    assert refused.value.retry_after_s > 0
    assert store._redis.dbsize() == size
    assert not store.submit(request(), KEY).created
    assert store.submit(request(chat_id="c"), Options(supersede=True)).created
    assert store.submit(request(JobType.TEST), Options()).created


def test_short_of_memory(store: Store) -> None:
    """From four fifths of the server's memory on nothing new is taken in; when some is freed it is."""
    used = store._redis.info("memory")["used_memory"]
    store._redis.config_set("maxmemory", used)
    try:
        with pytest.raises(StoreUnavailable, match="memory"):
            store.add(request())
    finally:
        store._redis.config_set("maxmemory", 0)
    assert store.memory_share() > 0.8, "the answer is not asked for again within a second"
    store._memory_seen_at = 0.0

    assert store.submit(request(), Options()).created


def test_rerun(store: Store) -> None:
    """A job that is run anew is a new one with the same request, tags and metadata, and names the old one."""
    options = Options(tags=("t",), metadata={"k": 1}, retry=RetryRule(2, (Reason.TIMEOUT,)))
    old = store.submit(request(chat_id="c", priority=9, env={"A": "b"}), options).job

    new = store.rerun(old.id)

    assert new.id != old.id
    assert store.request(new.id) == store.request(old.id)
    assert (new.tags, new.metadata, new.retry) == (old.tags, old.metadata, old.retry)
    assert (new.priority, new.chat_id, new.replay_of) == (9, "c", old.id)
    with pytest.raises(JobNotFound):
        store.rerun("job-unknown")


def test_replay(store: Store) -> None:
    """A replayed dead letter runs anew and leaves the list; replaying it again answers the same job."""
    dead = claimed(store)
    store.finish(dead.id, dead.fence, FAULT)

    new = store.replay(dead.id)

    assert (new.status, new.replay_of) == (Status.PENDING, dead.id)
    assert store.dead_letters() == []
    assert store.replay(dead.id).id == new.id
    with pytest.raises(JobNotFound):
        store.replay("job-unknown")
