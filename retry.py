"""Whether another attempt follows, and when: decided from the reason that an attempt ended with."""

from __future__ import annotations

import random
from dataclasses import dataclass

from jobs import Job, Reason, ReasonClass, Result, Retry

MAX_WISHED_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how patiently infrastructure faults are tried again; `attempts` counts the first one."""

    attempts: int = 3
    base_s: float = 2.0
    cap_s: float = 60.0


def decide(job: Job, result: Result, policy: Policy) -> Retry | None:
    """Another attempt while there are any left: for an infrastructure fault always, else if the job asks for it.

    Without a wish of the job's own, a failing build, a limit and a cancellation end it: the same input would end the
    same way.
    """
    if result.reason is None or result.reason.reason_class is ReasonClass.CALLER:
        return None
    if result.reason.reason_class is ReasonClass.INFRASTRUCTURE:
        return _after_fault(job, result.reason, policy)
    return _as_wished(job, result.reason, policy)


def _after_fault(job: Job, reason: Reason, policy: Policy) -> Retry | None:
    failures = job.infra_failures + 1
    if failures >= policy.attempts:
        return None
    why = f"{reason} is no fault of the job (failure {failures} of {policy.attempts})"
    return Retry(backoff_ms(failures, policy.base_s, policy.cap_s), why)


def _as_wished(job: Job, reason: Reason, policy: Policy) -> Retry | None:
    wish, failures = job.retry, job.user_failures + 1
    if wish is None or reason not in wish.on or failures >= wish.attempts:
        return None
    doublings = failures - 1 if wish.backoff == "exponential" else 0
    delay_ms = min(wish.delay_ms * 2**doublings, int(MAX_WISHED_DELAY_S * 1000))
    return Retry(delay_ms, f"the job asks for {wish.attempts} attempts on {reason} (failure {failures})", "user")


def memory_bytes(job: Job, usual: int, ceiling: int) -> int:
    """Memory for the next attempt: doubled for each earlier one that ran out of it, up to `ceiling`."""
    failures = [attempt for attempt in job.attempts if attempt["reason"] == Reason.OUT_OF_MEMORY]
    return max(usual, min(usual << len(failures), ceiling))


def backoff_ms(failures: int, base_s: float, cap_s: float) -> int:
    """Milliseconds to wait after the nth failure: exponential with full jitter, so that a crowd does not return as one.

    Full jitter: a random share of min(cap, base * 2^(n-1)).
    """
    longest_s = min(cap_s, base_s * 2 ** (failures - 1))
    return int(random.uniform(0, longest_s) * 1000)  # noqa: S311  (no secret depends on it)
