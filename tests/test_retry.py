"""Which ends are tried again, and how long is waited."""

from __future__ import annotations

from typing import Any

import pytest

import retry
from jobs import Conclusion, Job, JobType, Reason, ReasonClass, Result, Status
from submission import RetryRule

POLICY = retry.Policy(attempts=3, base_s=2.0, cap_s=60.0)


def job(infra_failures: int = 0, **fields: Any) -> Job:
    """A running job that failed so often for reasons that were not its own."""
    return Job("job-0", JobType.BUILD, Status.ACTIVE, 5, 1, infra_failures=infra_failures, **fields)


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
    waits = [retry.backoff_ms(failures, 2.0, 60.0) for _ in range(400)]

    assert 0 <= min(waits) < longest_ms * 0.2
    assert longest_ms * 0.8 < max(waits) <= longest_ms


def test_wish_for_other_attempts() -> None:
    """A job that asks for it is tried again for the reasons it names, as often as it says, and for no other."""
    wish = RetryRule(attempts=3, on=(Reason.TESTS_FAILED,), delay_ms=500)
    failed, broken = Result(Conclusion.FAILURE, Reason.TESTS_FAILED), Result(Conclusion.FAILURE, Reason.BUILD_FAILED)

    decisions = [retry.decide(job(user_failures=n, retry=wish), failed, POLICY) for n in range(3)]

    assert [decision and (decision.delay_ms, decision.counts_as) for decision in decisions] == [
        (500, "user"),
        (1000, "user"),
        None,
    ]
    assert retry.decide(job(retry=wish), broken, POLICY) is None


def test_cancelled_jobs_are_never_tried_again() -> None:
    """No wish brings a cancelled job back."""
    wish = RetryRule(attempts=3, on=tuple(Reason))

    assert retry.decide(job(retry=wish), Result(Conclusion.CANCELLED, Reason.CANCELLED), POLICY) is None


@pytest.mark.parametrize(("out_of_memory", "megabytes"), [(0, 512), (1, 1024), (2, 2048), (3, 2048)])
def test_memory_steps_up_to_the_ceiling(out_of_memory: int, megabytes: int) -> None:
    """Each attempt that ran out of memory doubles what the next one gets; other failures do not."""
    attempts = ({"reason": "build_failed"}, *({"reason": "out_of_memory"},) * out_of_memory)

    assert retry.memory_bytes(job(attempts=attempts), 512 << 20, 2 << 30) == megabytes << 20
