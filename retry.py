"""Whether another attempt follows, and when: decided from the reason that an attempt ended with."""

from __future__ import annotations

import random
from dataclasses import dataclass

from jobs import Job, ReasonClass, Result, Retry


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how patiently infrastructure faults are tried again; `attempts` counts the first one."""

    attempts: int = 3
    base_s: float = 2.0
    cap_s: float = 60.0


def decide(job: Job, result: Result, policy: Policy) -> Retry | None:
    """Another attempt for an infrastructure fault while attempts are left, else None.

    A failing build, a limit and a cancellation end the job: the same input would end the same way.
    """
    if result.reason is None or result.reason.reason_class is not ReasonClass.INFRASTRUCTURE:
        return None
    failures = job.infra_failures + 1
    if failures >= policy.attempts:
        return None
    why = f"{result.reason.value} is no fault of the job (failure {failures} of {policy.attempts})"
    return Retry(delay_ms=backoff_ms(failures, policy), why=why)


def backoff_ms(failures: int, policy: Policy) -> int:
    """Milliseconds to wait after the nth failure: exponential with full jitter, so that a crowd does not return as one.

    Full jitter: a random share of min(cap, base * 2^(n-1)).
    """
    longest_s = min(policy.cap_s, policy.base_s * 2 ** (failures - 1))
    return int(random.uniform(0, longest_s) * 1000)  # noqa: S311  (no secret depends on it)
