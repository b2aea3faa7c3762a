"""Forged and broken contents of Redis: nothing of it is executed, no process ends by it, and good jobs go on."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huey import PriorityRedisHuey
from redis import Redis

from tests.faults.scripted import Plan
from tests.faults.service import Service, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]
QUEUE = PriorityRedisHuey("chef", url="redis://unused").storage.queue_key


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two workers that outlive all tests of this module."""
    with running(workers=2, LEASE_SECONDS="1") as started:
        started.ended(started.add(Plan(ms=1).request()).id)
        yield started


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


def goes_on(service: Service) -> None:
    """More good jobs than there are slots, ended and told of by the workers that were there before."""
    workers = {worker.pid for worker in service.living()}
    for n in range(6):
        service.add(Plan(ms=10).request(f"good-{n}"))
    service.until(
        lambda: {post.job_id for post in service.sink.results()}.issuperset(service.sent.acknowledged),
        15,
        "all good jobs told of",
    )
    assert not service.given_up
    assert {worker.pid for worker in service.living()} == workers


def test_pickle_in_the_queue(service: Service, tmp_path: Path) -> None:
    """Stock Huey's messages are Python objects that run code when read; here they are bytes that are set aside."""
    canary = tmp_path / "hatched"
    pickle.loads(pickle.dumps(Canary(tmp_path / "proof")))  # noqa: S301  (it does run)
    assert (tmp_path / "proof").exists()
    for n, priority in enumerate([0, -20]):
        service.redis.client.zadd(QUEUE, {n.to_bytes(8, "big") + pickle.dumps(Canary(canary)): priority})

    service.until(lambda: service.redis.client.zcard(QUEUE) == 0, 5, "the messages are taken")

    goes_on(service)
    assert not canary.exists()


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"null", b'{"name": "gone"}', b"\xff" * 200, b"x" * (10 << 20)])
def test_bytes_in_the_queue(service: Service, message: bytes) -> None:
    """Whatever else stands in Huey's queue is set aside."""
    service.redis.client.zadd(QUEUE, {b"12345678" + message: 0})

    service.until(lambda: service.redis.client.zcard(QUEUE) == 0, 5, "the message is taken")

    goes_on(service)


def of_a_job(name: str) -> Callable[[Redis, str], object]:
    """How a job's keys are broken, by name."""
    return {
        "record gone": lambda redis, job: redis.delete(f"cw:job:{job}"),
        "request gone": lambda redis, job: redis.delete(f"cw:request:{job}"),
        "request cut": lambda redis, job: redis.set(f"cw:request:{job}", b'{"type": "bui'),
        "request of wrong type": lambda redis, job: (
            redis.delete(f"cw:request:{job}"),
            redis.hset(f"cw:request:{job}", "a", "b"),
        ),
        "record of wrong type": lambda redis, job: redis.set(f"cw:job:{job}", b"text"),
        "unknown job type": lambda redis, job: redis.hset(f"cw:job:{job}", "type", "mine"),
        "unknown status": lambda redis, job: redis.hset(f"cw:job:{job}", "status", "sleeping"),
        "no number": lambda redis, job: redis.hset(f"cw:job:{job}", "attempt", "many"),
        "broken list": lambda redis, job: redis.hset(f"cw:job:{job}", "attempts", "{,"),
        "bytes": lambda redis, job: redis.hset(f"cw:job:{job}", "message", b"\xff\xfe"),
    }[name]


BREAKS = [
    "record gone", "request gone", "request cut", "request of wrong type", "record of wrong type", "unknown job type",
    "unknown status", "no number", "broken list", "bytes",
]  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_broken_waiting_job(service: Service, name: str) -> None:
    """A waiting job whose keys are broken harms no other job."""
    with paused(service):
        job = service.store.add(Plan().request("broken"))
        of_a_job(name)(service.redis.client, job.id)

    goes_on(service)


@pytest.mark.parametrize("name", BREAKS)
def test_broken_running_job(service: Service, name: str) -> None:
    """A job whose keys break while it runs harms no other job."""
    job = service.store.add(Plan(ms=600).request("broken"))
    service.started(job.id)
    of_a_job(name)(service.redis.client, job.id)

    goes_on(service)


@pytest.mark.parametrize(
    "plant",
    [
        lambda redis: redis.zadd("cw:waiting:builds", {"job-unknown": 1}),
        lambda redis: redis.zadd("cw:active:builds", {"job-unknown": 1}),
        lambda redis: redis.zadd("cw:delayed:builds", {"job-unknown": 1}),
        lambda redis: redis.zadd("cw:ready:builds", {"no flow": -1}),
        lambda redis: redis.zadd("cw:ready:builds", {"99:no jobs": -99e13}),
        lambda redis: redis.zadd("cw:outbox:default", {"unknown": 1}),
        lambda redis: (redis.set("cw:delivery:text", "x"), redis.zadd("cw:outbox:default", {"text": 1})),
        lambda redis: (
            redis.hset("cw:delivery:half", "job_id", "job-unknown"),
            redis.zadd("cw:outbox:default", {"half": 1}),
        ),
        lambda redis: redis.hset(
            "cw:job:job-alone", mapping={"id": "job-alone", "status": "pending", "queue": "builds"}
        ),
    ],
    ids=[
        "waiting",
        "active",
        "delayed",
        "flow",
        "first flow",
        "outbox",
        "delivery of wrong type",
        "half a delivery",
        "record",
    ],
)
def test_half_states(service: Service, plant: Callable[[Redis], object]) -> None:
    """Entries without what they stand for, and a record without an entry, harm no job."""
    plant(service.redis.client)

    goes_on(service)


@contextlib.contextmanager
def paused(service: Service) -> Iterator[None]:
    """No worker takes a job meanwhile."""
    workers = service.living()
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
