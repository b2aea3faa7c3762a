"""A receiver that is down for hours while senders die: every end arrives, has one effect, and delays nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import standardwebhooks

from store import Store
from submission import Options
from tests.faults.sink import Mood, Post, Sink, moody
from tests.store_cases import SUCCESS, next_job, request
from webhook import new_secret

pytestmark = [pytest.mark.faults, pytest.mark.timeout(150)]

ROOT = Path(__file__).parents[2]
CLOCK = 900
OUTAGE_S = 6 * 3_600 / CLOCK
KILL_EVERY_S = 5
JOBS = 500
SECRET = new_secret()


class Couriers:
    """Two processes that deliver; each is killed in its turn, and another one takes its place."""

    def __init__(self, redis_url: str, **ports: int) -> None:
        endpoints = {name: {"url": f"http://127.0.0.1:{port}", "secret": SECRET} for name, port in ports.items()}
        self._environment = {
            "PATH": os.defpath,
            "REDIS_URL": redis_url,
            "WEBHOOK_ENDPOINTS": json.dumps(endpoints),
            "CLOCK": str(CLOCK),
        }
        self._running: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self.killed = 0

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.couriers"]
        self._running.append(subprocess.Popen(command, cwd=ROOT, env=self._environment))

    def _kill(self) -> None:
        process = self._running.pop(0)
        process.kill()
        process.wait()

    def _tend(self) -> None:
        while not self._over.wait(KILL_EVERY_S):
            self._start()
            self._kill()
            self.killed += 1

    @contextlib.contextmanager
    def working(self) -> Iterator[Couriers]:
        tender = threading.Thread(target=self._tend)
        for _ in range(2):
            self._start()
        tender.start()
        try:
            yield self
        finally:
            self._over.set()
            tender.join()
            while self._running:
                self._kill()


def test_six_hours_without_a_receiver(redis_url: str) -> None:
    """Down for six hours of a faster clock, with senders killed all the time: every end arrives at both receivers.

    The same id stands for the same content at every try, and has one effect; the receiver that is up waits for nothing.
    """
    store = Store(redis_url)
    up_at = time.monotonic() + OUTAGE_S
    alive = Sink(moody(Random(7)))
    down = Sink(lambda _: Mood.ACCEPT if time.monotonic() > up_at else Mood.REFUSE)
    with (
        contextlib.closing(store),
        alive.serve(),
        down.serve(),
        Couriers(redis_url, alive=alive.port, down=down.port).working() as couriers,
    ):
        jobs = [end_of_a_job(store, up_at, number) for number in range(JOBS)]
        while store.lanes()["down"].pending or store.lanes()["alive"].pending:
            assert time.monotonic() < up_at + 60, store.lanes()
            time.sleep(0.2)
        waits = [waited_ms(store, job_id) for job_id in jobs]

    lanes = store.lanes()
    assert couriers.killed >= 5
    assert (lanes["alive"].exhausted, lanes["down"].exhausted) == (0, 0)
    for sink in (alive, down):
        assert effects(sink.posts) == dict.fromkeys(jobs, 1)
        assert_same_at_every_try(sink.posts)
    p95 = statistics.quantiles(waits, n=20)[-1]
    print(
        f"\n{JOBS} ends, {couriers.killed} senders killed; alive: {len(alive.posts)} tries, p95 {p95:.0f} ms, ", end=""
    )
    print(f"most {max(waits)} ms; down: {len(down.posts)} tries, last {time.monotonic() - up_at:.1f} s after it was up")
    assert p95 < 1_000


def end_of_a_job(store: Store, up_at: float, number: int) -> str:
    """The id of a job that just ended; the ends are spread over most of the outage."""
    begin = up_at - OUTAGE_S
    time.sleep(max(0.0, begin + number * 0.8 * OUTAGE_S / JOBS - time.monotonic()))
    job = store.submit(request(), Options(webhook=("alive", "down"))).job
    store.finish(job.id, next_job(store).fence, SUCCESS)
    return job.id


def waited_ms(store: Store, job_id: str) -> int:
    """From a job's end until the living receiver had it."""
    (listed,) = [each for each in store.deliveries_of(job_id) if each.delivery.endpoint == "alive"]
    moment: int = listed.tries[-1]["at_ms"]
    return moment - listed.delivery.created_ms


def effects(posts: list[Post]) -> dict[str, int]:
    """How often a receiver that knows the ids it has seen would have acted, by job."""
    ids = defaultdict(set)
    for post in posts:
        if post.accepted:
            ids[post.job_id].add(post.webhook_id)
    return {job_id: len(each) for job_id, each in ids.items()}


def assert_same_at_every_try(posts: list[Post]) -> None:
    """One id is one body, signed anew each time, with a signature that the reference library accepts."""
    bodies = defaultdict(set)
    for post in posts:
        bodies[post.webhook_id].add(post.body)
        standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    assert all(len(each) == 1 for each in bodies.values())
