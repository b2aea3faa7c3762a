"""Cancellations that race a job's start and end: one end each, and a run that was cancelled is stopped soon."""

from __future__ import annotations

import pytest

from tests.faults import scenarios
from tests.faults.scripted import Plan
from tests.faults.service import running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


def test_racing() -> None:
    """Cancelled around claim and finish, every job has one end, and record, webhook and executor agree about it."""
    outcome = scenarios.racing_cancels(jobs=60)

    assert outcome.verdict.reruns == 0


def test_of_a_run() -> None:
    """A running job that is cancelled is stopped within two seconds and ends as cancelled, with the caller's reason."""
    with running(workers=1, LEASE_SECONDS="15") as service:
        job = service.add(Plan(ms=20_000).request())
        started = service.started(job.id)

        service.store.cancel(job.id, message="not wanted any more")
        record = service.ended(job.id, 3)

        (_, stopped) = service.ledger.steps(job.id)
        assert (record.conclusion, record.reason) == ("cancelled", "cancelled")
        assert stopped.event == "stopped"
        assert stopped.at_s - started < 2
        service.settle()
