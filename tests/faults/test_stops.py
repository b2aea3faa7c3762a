"""Workers told to stop: a running job ends within the grace time, or is handed back without using an attempt."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults import scenarios
from tests.faults.scripted import Plan
from tests.faults.service import running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


def test_within_the_grace_time() -> None:
    """A job shorter than the grace time ends in the worker that was told to stop; then the worker exits."""
    with running(workers=1) as service:
        job = service.add(Plan(ms=1000).request())
        service.started(job.id)
        (worker,) = service.living()

        service.signal(worker, signal.SIGTERM)

        worker.wait(5)
        assert service.store.get(job.id).status == "completed"
        service.start_worker()  # for the webhook, if it was not sent any more
        assert service.settle().reruns == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_beyond_the_grace_time(number: signal.Signals) -> None:
    """A longer one is handed to the next worker at once, as the same attempt, and no lease has to run out for it.

    SIGINT grants no grace time: whoever types Ctrl-C wants the end.
    """
    with running(workers=1, SHUTDOWN_GRACE_SECONDS="0.5", LEASE_SECONDS="10") as service:
        job = service.add(Plan(ms=1500).request())
        service.started(job.id)
        (worker,) = service.living()
        service.start_worker(SHUTDOWN_GRACE_SECONDS="5")

        told = time.monotonic()
        service.signal(worker, number)
        worker.wait(5)

        assert service.started(job.id, 2) - told < 0.5 + 1.5
        record = service.ended(job.id)
        assert (record.status, record.attempt, record.stalls) == ("completed", 1, 0)
        events = [step.event for step in service.ledger.steps(job.id)]
        assert events == ["start", "stopped", "start", "end"]
        service.settle()


def test_told_twice() -> None:
    """A second signal ends the patience: the job is handed back although the grace time is not over."""
    with running(workers=1, SHUTDOWN_GRACE_SECONDS="30", LEASE_SECONDS="10") as service:
        job = service.add(Plan(ms=1200).request())
        service.started(job.id)
        (worker,) = service.living()

        service.signal(worker, signal.SIGTERM)
        time.sleep(0.3)  # two signals at once are one
        service.signal(worker, signal.SIGTERM)
        worker.wait(5)

        record = service.store.get(job.id)
        assert (record.status, record.attempt, record.stalls) == ("pending", 0, 0)
        service.start_worker()
        service.settle()


def test_rolling_restarts() -> None:
    """Every worker restarted under load: each job runs once."""
    outcome = scenarios.rolling_restarts(jobs=30, rounds=1)

    assert outcome.verdict.reruns == 0
    assert outcome.verdict.overlaps == []
