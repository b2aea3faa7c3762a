"""Huey over the store: jobs come from their records, other tasks travel as usual, and nothing read becomes code."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from consumer import JobHuey
from jobs import Job, Status
from store import Store
from submission import Options
from tests.store_cases import SUCCESS, request


class Worker:
    """A JobHuey with one job task and one ordinary task, driven by hand as huey_consumer does."""

    def __init__(self, store: Store, redis_url: str, slots: int = 1) -> None:
        self.ran: list[Any] = []
        self.kept: set[int] = set()  # slots that are not free although no job has them
        free = lambda slot: slot not in self.kept  # noqa: E731
        self.huey = JobHuey("test", store=store, owner="w", slots=slots, url=redis_url, slot_is_free=free)

        @self.huey.job_task(priority=5, retries=2, retry_delay=1, retry_backoff=2)
        def run_job(job: Job, slot: int) -> None:
            self.ran.append((job.id, slot))
            store.finish(job.id, job.fence, SUCCESS)

        @self.huey.task()
        def note(text: str) -> None:
            self.ran.append(text)

        @self.huey.task(retries=1)
        def fail() -> None:
            self.ran.append("failed")
            raise RuntimeError("no")

        self.run_job, self.note, self.fail = run_job, note, fail

    def step(self) -> Any:
        """What a worker thread does again and again; the task it ran."""
        task = self.huey.dequeue()
        if task is not None:
            self.huey.execute(task)
        return task

    def until(self, done: Callable[[], bool]) -> None:
        """Step until `done()`, at most ten seconds."""
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            self.step()


@pytest.fixture
def worker(store: Store, redis_url: str) -> Worker:
    return Worker(store, redis_url)


def test_a_job_is_its_record(worker: Worker, store: Store) -> None:
    """Enqueueing a job stores it and queues no message; a worker runs it from the record."""
    job = worker.run_job(request(), Options(), priority=5).job

    assert worker.huey.storage.queue_size() == 0
    worker.step()
    assert worker.ran == [(job.id, 0)]
    assert store.get(job.id).status is Status.COMPLETED


def test_ordinary_tasks_travel_as_usual(worker: Worker) -> None:
    """Another task is a message in Huey's queue, and runs with its arguments."""
    worker.note("hello")

    assert worker.huey.storage.queue_size() == 1
    worker.until(lambda: worker.ran == ["hello"])


def test_ordinary_tasks_run_while_all_slots_are_taken(store: Store, redis_url: str) -> None:
    """With every slot taken no job is claimed, and other tasks still run."""
    worker = Worker(store, redis_url)
    first, second = (worker.run_job(request(), Options(), priority=5).job for _ in range(2))
    claimed = worker.huey.dequeue()
    worker.note("meanwhile")

    worker.until(lambda: worker.ran == ["meanwhile"])

    assert store.get(second.id).status is Status.PENDING
    worker.huey.execute(claimed)
    worker.until(lambda: [(first.id, 0), (second.id, 0)] == worker.ran[1:])


def test_slots_are_never_shared(store: Store, redis_url: str) -> None:
    """Jobs claimed at the same time have slots of their own, which are free again afterwards."""
    worker = Worker(store, redis_url, slots=3)
    for _ in range(6):
        worker.run_job(request(), Options(), priority=5)

    tasks = [worker.huey.dequeue() for _ in range(3)]

    assert sorted(task.kwargs["slot"] for task in tasks) == [0, 1, 2]
    for task in tasks:
        worker.huey.execute(task)
    assert sorted(worker.huey.dequeue().kwargs["slot"] for _ in range(3)) == [0, 1, 2]


def test_a_failing_ordinary_task_is_tried_again(worker: Worker) -> None:
    """Huey's own retries work for the tasks that are not jobs."""
    worker.fail()

    worker.until(lambda: worker.ran == ["failed", "failed"])


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x80",
        b"{}",
        b"[]",
        b"null",
        b'{"name": "os.system"}',
        b'{"eta": {}, "args": [], "name": "x"}',
        b"\xff" * 99,
    ],
)
def test_broken_messages_are_set_aside(worker: Worker, store: Store, redis_url: str, message: bytes) -> None:
    """Whatever stands in the queue: it is kept for people to look at, and the consumer goes on."""
    client = redis.Redis.from_url(redis_url)
    client.zadd(worker.huey.storage.queue_key, {b"12345678" + message: 0})
    client.close()
    worker.note("after")

    worker.until(lambda: worker.ran == ["after"] and bool(store.quarantined()))

    assert [entry["size"] for entry in store.quarantined()] == [len(message)]


def test_pickles_are_never_opened(worker: Worker, store: Store, redis_url: str, tmp_path: Path) -> None:
    """A pickle in the queue, which stock Huey would run, does nothing but land in quarantine."""
    canary = tmp_path / "canary"
    client = redis.Redis.from_url(redis_url)
    client.zadd(worker.huey.storage.queue_key, {b"12345678" + pickle.dumps(Bomb(canary)): 0})
    client.close()

    worker.until(lambda: bool(store.quarantined()))

    assert not canary.exists()


def test_a_slot_that_is_kept_serves_no_job(store: Store, redis_url: str) -> None:
    """What an ended job left keeps its slot from the next one; the others go on, and it serves again once free."""
    worker = Worker(store, redis_url, slots=2)
    for _ in range(3):
        worker.run_job(request(), Options(), priority=5)

    worker.kept = {0}
    worker.step(), worker.step()
    assert [slot for _, slot in worker.ran] == [1, 1]
    worker.kept = {0, 1}
    assert worker.step() is None
    worker.kept = {1}
    worker.step()
    assert [slot for _, slot in worker.ran] == [1, 1, 0]
