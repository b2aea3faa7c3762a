"""The life of a job, move by move."""

from __future__ import annotations

import threading
import time

import pytest

from errors import JobNotFound, LeaseLost
from jobs import Artifact, Conclusion, JobType, Reason, Result, Retry, Status
from store import Store
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, lines, next_job, request


def test_added_job_is_kept_whole(store: Store) -> None:
    """A stored job has its record and its request, and the record alone never shows the request."""
    asked = request(chat_id="c1", priority=7, env={"TOKEN": "secret"}, files={"a.txt": "ä\u2028\x00"})

    job = store.add(asked)

    assert store.get(job.id) == job
    assert (job.status, job.priority, job.chat_id, job.attempt, job.fence) == (Status.PENDING, 7, "c1", 0, 0)
    assert store.request(job.id) == asked
    assert "secret" not in repr(job)


def test_largest_project(store: Store) -> None:
    """A project of ten megabytes in two thousand files is kept and given back as it was."""
    asked = request(files={f"src/file{number}.ts": "ä" * 2_500 for number in range(2_000)})

    job = store.add(asked)

    assert store.request(job.id) == asked


def test_unknown_job(store: Store) -> None:
    """A job that was never added is not found, by any way of asking."""
    for ask in (store.get, store.request, store.cancel):
        with pytest.raises(JobNotFound):
            ask("job-unknown")
    assert store.log("job-unknown") == []


def test_claim_gives_the_job_to_one(store: Store) -> None:
    """Of many workers asking at once, each job goes to exactly one."""
    added = {store.add(request()).id for _ in range(20)}
    taken: list[str] = []

    def work() -> None:
        while (job := store.claim("w").job) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == 20
    assert set(taken) == added


def test_claimed_job(store: Store) -> None:
    """A claimed job is active, belongs to its worker, and counts its first attempt."""
    job = claimed(store)

    assert (job.status, job.owner, job.attempt, job.fence) == (Status.ACTIVE, "w", 1, 1)
    assert job.created_ms <= job.started_ms <= time.time() * 1000 + 1000


def test_success_ends_the_job(store: Store) -> None:
    """A finished job has its result, its artifacts, full progress, and its attempt with the range of its log."""
    job = claimed(store)
    store.append_log(job.id, job.fence, [lines(0, "one\ntwo\n")])
    result = Result(Conclusion.SUCCESS, artifacts=(Artifact("index.html", 3, "ab"),), exit_code=0)

    store.finish(job.id, job.fence, result)

    ended = store.get(job.id)
    assert (ended.status, ended.conclusion, ended.reason, ended.progress) == (Status.COMPLETED, "success", "", 100)
    assert ended.result == result.to_json()
    assert ended.artifacts == ({"path": "index.html", "size": 3, "sha256": "ab"},)
    assert ended.finished_ms >= ended.started_ms > 0
    (attempt,) = ended.attempts
    assert (attempt["attempt"], attempt["worker"], attempt["logs"]) == (1, "w", {"from": 0, "to": 2})
    assert (attempt["conclusion"], attempt["decision"]) == ("success", "final")


def test_failure_keeps_its_reason(store: Store) -> None:
    """A failed job says why it failed and why it is not tried again."""
    job = claimed(store)

    store.finish(job.id, job.fence, BROKEN, why="the same input would fail again")

    ended = store.get(job.id)
    assert (ended.status, ended.conclusion, ended.reason) == (Status.FAILED, "failure", "build_failed")
    assert ended.message == "the build says no"
    assert ended.attempts[0]["why"] == "the same input would fail again"


def test_finish_twice(store: Store) -> None:
    """The same end reported again, as a client does after a lost answer, changes nothing and is no error."""
    job = claimed(store)
    store.finish(job.id, job.fence, BROKEN)
    first = store.get(job.id)

    store.finish(job.id, job.fence, BROKEN)

    assert store.get(job.id) == first
    with pytest.raises(LeaseLost):
        store.finish(job.id, job.fence, SUCCESS)
    assert store.get(job.id) == first


def test_retry(store: Store) -> None:
    """A retried job waits for its delay, keeps the failed attempt with the decision, and counts the failure."""
    job = claimed(store)

    store.finish(job.id, job.fence, FAULT, Retry(60_000, "the engine restarts"))

    waiting = store.get(job.id)
    assert (waiting.status, waiting.infra_failures, waiting.user_failures) == (Status.PENDING, 1, 0)
    assert store.stats()["builds"]["delayed"] == 1
    assert store.claim("w").job is None
    (attempt,) = waiting.attempts
    assert (attempt["decision"], attempt["why"], attempt["retryDelayMs"]) == ("retry", "the engine restarts", 60_000)
    assert (attempt["reason"], attempt["message"]) == ("runtime_unavailable", FAULT.message)


def test_retry_comes_when_due(store: Store) -> None:
    """After its delay a retried job is claimed with the next attempt and a new fence, and nobody slept too long."""
    job = claimed(store)
    store.finish(job.id, job.fence, BROKEN, Retry(80, "asked for", counts_as="user"))

    claim = store.claim("w")
    assert claim.job is None
    assert 0 < claim.wait_ms <= 80
    deadline = time.monotonic() + 5
    while (again := store.claim("w").job) is None and time.monotonic() < deadline:
        time.sleep(0.01)

    assert again is not None
    assert (again.id, again.attempt, again.fence, again.user_failures) == (job.id, 2, 2, 1)
    assert again.started_ms == job.started_ms


def test_retry_keeps_the_place(store: Store) -> None:
    """A retried job is claimed before those that came after it."""
    first = claimed(store)
    store.add(request())

    store.finish(first.id, first.fence, FAULT, Retry(0, "at once"))

    assert next_job(store).id == first.id


def test_release(store: Store) -> None:
    """A job handed back keeps its place, uses no attempt, and its next run has a fence of its own."""
    job = claimed(store)
    later = store.add(request())

    store.release(job.id, job.fence)
    store.release(job.id, job.fence)

    again = next_job(store)
    assert (again.id, again.attempt, again.fence) == (job.id, 1, 2)
    assert again.attempts == ()
    assert next_job(store).id == later.id


def test_cancel_pending(store: Store) -> None:
    """A waiting job that is cancelled ends at once and is never claimed."""
    job = store.add(request())

    ended = store.cancel(job.id, message="not needed any more")

    assert (ended.status, ended.conclusion, ended.reason) == (Status.FAILED, "cancelled", "cancelled")
    assert ended.message == "not needed any more"
    assert store.claim("w").job is None
    assert store.stats()["builds"] == {"waiting": 0, "delayed": 0, "active": 0, "completed": 0, "failed": 1}


def test_cancel_active(store: Store) -> None:
    """An active job hears of its cancellation with its next heartbeat; the first reason stays."""
    job = claimed(store)
    assert not store.beat(job.id, job.fence)

    asked = store.cancel(job.id, Reason.SUPERSEDED, "a newer build came")
    store.cancel(job.id)

    assert (asked.status, asked.cancel_reason) == (Status.ACTIVE, "superseded")
    assert store.get(job.id).cancel_message == "a newer build came"
    assert store.beat(job.id, job.fence)
    store.finish(job.id, job.fence, Result(Conclusion.CANCELLED, Reason.SUPERSEDED, "a newer build came"))
    assert store.get(job.id).reason == "superseded"


@pytest.mark.parametrize("give_back", ["retry", "release"])
def test_cancelled_job_does_not_return(store: Store, give_back: str) -> None:
    """A job whose cancellation was asked for ends when its run hands it back, instead of running again."""
    job = claimed(store)
    store.cancel(job.id, message="stop")

    if give_back == "retry":
        store.finish(job.id, job.fence, FAULT, Retry(0, "again"))
    else:
        store.release(job.id, job.fence)

    ended = store.get(job.id)
    assert (ended.status, ended.conclusion, ended.message) == (Status.FAILED, "cancelled", "stop")
    assert store.claim("w").job is None


def test_cancel_finished(store: Store) -> None:
    """Cancelling a finished job changes nothing."""
    job = claimed(store)
    store.finish(job.id, job.fence, SUCCESS)
    ended = store.get(job.id)

    assert store.cancel(job.id) == ended


def test_progress_never_falls(store: Store) -> None:
    """Within an attempt the percentage only grows; the next attempt begins anew."""
    job = claimed(store)

    store.progress(job.id, job.fence, 40, "building")
    store.progress(job.id, job.fence, 30, "collecting")

    assert (store.get(job.id).progress, store.get(job.id).phase) == (40, "collecting")
    store.finish(job.id, job.fence, FAULT, Retry(0, "again"))
    assert (next_job(store).progress, store.get(job.id).phase) == (0, "")


def test_log(store: Store) -> None:
    """Output is read from any line on, in order, in parts; a chunk sent twice is kept once."""
    job = claimed(store)
    chunks = [lines(n, f"line {n}\n", "stderr" if n % 2 else "stdout") for n in range(250)]

    store.append_log(job.id, job.fence, chunks[:100])
    store.append_log(job.id, job.fence, chunks[50:])

    assert store.log(job.id) == chunks
    assert store.log(job.id, offset=249) == chunks[249:]
    assert store.log(job.id, offset=250) == []
    assert store.log(job.id, max_bytes=20) == chunks[:3]
    assert store.get(job.id).log_lines == 250


def test_lone_surrogates_in_output(store: Store) -> None:
    """Output that is no valid Unicode is kept readable instead of stopping the run."""
    job = claimed(store)

    store.append_log(job.id, job.fence, [lines(0, "bad \ud800\n")])

    assert store.log(job.id)[0].text == "bad ?\n"


def test_stats_count_per_queue(store: Store) -> None:
    """Each queue counts its own jobs by where they are; lint and analyze share one."""
    for kind in JobType:
        store.add(request(kind, priority=20 if kind is JobType.TEST else 5))
    next_job(store)

    stats = store.stats()

    assert stats["tests"] == {"waiting": 0, "delayed": 0, "active": 1, "completed": 0, "failed": 0}
    assert (stats["builds"]["waiting"], stats["lint"]["waiting"]) == (1, 2)
