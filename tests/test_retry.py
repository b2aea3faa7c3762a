"""Which ends are tried again, and how long is waited."""

from __future__ import annotations

import pytest

import retry
from jobs import Conclusion, Job, JobType, Reason, ReasonClass, Result, Status

POLICY = retry.Policy(attempts=3, base_s=2.0, cap_s=60.0)


def job(infra_failures: int = 0) -> Job:
    """A running job that failed so often for reasons that were not its own."""
    return Job("job-0", JobType.BUILD, Status.ACTIVE, 5, 1, infra_failures=infra_failures)


@pytest.mark.parametrize("reason", list(Reason))
def test_only_infrastructure_faults_are_tried_again(reason: Reason) -> None:
    """Of all reasons exactly those of the class infrastructure lead to another attempt."""
    decision = retry.decide(job(), Result(reason.conclusion, reason), POLICY)

    assert (decision is not None) == (reason.reason_class is ReasonClass.INFRASTRUCTURE)


def test_success_is_not_tried_again() -> None:
    """A success has no reason, and no other attempt."""
    assert retry.decide(job(), Result(Conclusion.SUCCESS), POLICY) is None


def test_attempts_are_bounded() -> None:
    """Three attempts in all: two failures are tried again, the third is final."""
    fault = Result(Conclusion.ERROR, Reason.RUNTIME_UNAVAILABLE)

    again = [retry.decide(job(failures), fault, POLICY) is not None for failures in range(4)]
    assert again == [True, True, False, False]


@pytest.mark.parametrize(("failures", "longest_ms"), [(1, 2_000), (2, 4_000), (3, 8_000), (6, 60_000), (40, 60_000)])
def test_backoff_doubles_to_its_cap(failures: int, longest_ms: int) -> None:
    """Waits spread over the whole range up to base * 2^(n-1), which never passes the cap."""
    waits = [retry.backoff_ms(failures, POLICY) for _ in range(400)]

    assert 0 <= min(waits) < longest_ms * 0.2
    assert longest_ms * 0.8 < max(waits) <= longest_ms
