"""Workers that are killed: nothing is lost, nothing ends twice, and what kills its workers is stopped."""

from __future__ import annotations

import time

import pytest

from tests.faults import scenarios
from tests.faults.scripted import Plan
from tests.faults.service import running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


def test_killed_at_random() -> None:
    """Five workers killed over forty jobs, with a receiver that refuses and breaks off: every job ends once."""
    outcome = scenarios.random_kills(jobs=40, kills=5)

    assert outcome.verdict.reruns <= 5 * 2
    assert outcome.verdict.overlaps == []


def test_poison() -> None:
    """A job that kills its worker ends as worker_lost after exactly three claims; its neighbours complete."""
    with running(workers=2) as service:
        poison = service.add(Plan(die=True).request("poisoner"))
        neighbours = [service.add(Plan(ms=30).request(f"chat-{n}")) for n in range(12)]

        record = service.ended(poison.id, 30)
        verdict = service.settle()

        assert (record.status, record.reason, record.stalls) == ("failed", "worker_lost", 3)
        assert len(service.ledger.starts(poison.id)) == 3
        assert {service.store.get(job.id).status for job in neighbours} == {"completed"}
        assert verdict.reruns <= 2 + 3  # the poison's own, and a neighbour's for each worker it took down


def test_idle_system_notices() -> None:
    """With nothing else to do, a killed worker's job starts again as soon as its lease is over."""
    with running(workers=2, LEASE_SECONDS="2") as service:
        job = service.add(Plan(ms=1500).request())
        service.started(job.id)
        pid = service.ledger.starts(job.id)[0].pid

        killed = service.kill(next(worker for worker in service.living() if worker.pid == pid))
        again = service.started(job.id, 2)

        assert again - killed <= 2 + 1
        service.settle()


def test_quiet_job_is_never_robbed() -> None:
    """A job that says nothing for several leases runs once."""
    with running(workers=2, LEASE_SECONDS="1") as service:
        began = time.monotonic()
        job = service.add(Plan(ms=2800).request())

        assert service.ended(job.id).status == "completed"
        assert time.monotonic() - began > 2.8
        assert service.settle().reruns == 0
