"""Faults under jobs in real containers: the same promises, and no container outlives its run."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.faults import engine_scenarios as scenarios
from tests.faults.containers import running_containers, waiting_project

pytestmark = [pytest.mark.faults, pytest.mark.engine, pytest.mark.timeout(120)]


def test_killed_at_random() -> None:
    """Workers killed over container jobs: every job ends once, and every container they left is removed."""
    outcome = scenarios.container_kills(jobs=5, kills=1)

    assert outcome.verdict.reruns <= 2  # slots of a worker


def test_frozen_past_the_lease() -> None:
    """A worker frozen while its container runs: the next run removes it, and the late one nothing."""
    with running_containers(workers=1) as (service, engine):
        job = service.add(waiting_project(2000))
        service.until(lambda: engine.alive(job.id), 20, "a container")
        (frozen,) = service.living()

        frozen.send_signal(signal.SIGSTOP)
        service.start_worker()
        record = service.ended(job.id, 30)
        os.kill(frozen.pid, signal.SIGCONT)
        given_up = re.compile(rf"{job.id}: attempt 1 lost its lease|attempt stopped .*attempt=1 job={job.id} why=lost")
        service.until(lambda: given_up.search(service.log_tail()), 15, "the stale run gives up")

        assert (record.status, record.fence) == ("completed", 2)
        assert service.store.get(job.id) == record
        service.until(lambda: not engine.objects(), 5, "no container or volume")
        service.settle()


def test_handed_back() -> None:
    """A worker that stops takes its containers along; the next one runs the job as the same attempt."""
    with running_containers(workers=1, SHUTDOWN_GRACE_SECONDS="0.1", LEASE_SECONDS="15") as (service, engine):
        job = service.add(waiting_project(1500))
        service.until(lambda: engine.alive(job.id), 20, "a container")
        (worker,) = service.living()

        service.signal(worker, signal.SIGTERM)
        worker.wait(10)

        assert engine.objects() == []
        service.start_worker(SHUTDOWN_GRACE_SECONDS="5")
        record = service.ended(job.id, 30)
        assert (record.status, record.attempt, record.stalls) == ("completed", 1, 0)
        service.settle()


def test_cancelled() -> None:
    """The container of a cancelled job is dead within two seconds of the request."""
    with running_containers(workers=1, LEASE_SECONDS="15") as (service, engine):
        job = service.add(waiting_project(60_000))
        service.until(lambda: engine.alive(job.id), 20, "a container")

        asked = time.monotonic()
        service.store.cancel(job.id)
        service.until(lambda: not engine.alive(job.id), 5, "no container")

        assert time.monotonic() - asked <= 2
        assert service.ended(job.id, 5).conclusion == "cancelled"
        service.settle()


def test_engine_away() -> None:
    """An engine that is away costs the jobs that ran an attempt, those that wait none, and fails no job."""
    outcome = scenarios.engine_away(jobs=5, seconds=4, huey="tests.faults.restless.huey")

    assert outcome.failed == 0
    assert 1 <= outcome.verdict.reruns <= 4  # slots
