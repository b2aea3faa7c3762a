"""Workers that are killed: nothing is lost, nothing ends twice, and what kills its workers is stopped."""

from __future__ import annotations

import pytest

from tests.faults import scenarios

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


def test_killed_at_random() -> None:
    """Five workers killed over forty jobs, with a receiver that refuses and breaks off: every job ends once."""
    outcome = scenarios.random_kills(jobs=40, kills=5)

    assert outcome.verdict.reruns <= 5 * 2
    assert outcome.verdict.overlaps == []


def test_poison() -> None:
    """A job that kills its worker ends as worker_lost after exactly three claims; its neighbours complete."""
    outcome = scenarios.poison(poisons=1, neighbours=12)

    assert outcome.failed == 0
    assert outcome.verdict.reruns <= 2 + 3  # the poison's own, and a neighbour's for each worker it took down


def test_idle_system_notices() -> None:
    """With nothing else to do, a killed worker's job starts again as soon as its lease is over."""
    outcome = scenarios.idle_recoveries(times=1, lease_s=2)

    assert max(outcome.recovery_s) <= 2 + 1


def test_quiet_job_is_never_robbed() -> None:
    """Jobs that say nothing for several leases run once."""
    outcome = scenarios.quiet_jobs(ms=2200, lease_s=1)

    assert (outcome.failed, outcome.verdict.reruns) == (0, 0)
