"""What the store is told and answers, beside the values of jobs.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs import Job, iso


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds that the moves keep; the scripts know each by its name in capitals.

    max_stalls: how often a job may lose its worker and still be tried again.
    chat_limit: how many jobs of one chat run at once; 0 for no bound.
    queue_bound: how many jobs may wait in one queue.
    ageing_ms: how long a job waits before its priority gets a share of the claims.
    remember_key_ms: how long an idempotency key is remembered.
    same_request_ms: how long the same fingerprint means the same job.
    notify_progress: whether progress goes into the outbox too, where ends do.
    """

    max_stalls: int = 2
    chat_limit: int = 0
    queue_bound: int = 10_000
    ageing_ms: int = 600_000
    remember_key_ms: int = 86_400_000
    same_request_ms: int = 60_000
    notify_progress: bool = True


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job a submission led to; `created` is False if it was there already."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True)
class Closure:
    """Why a queue is paused or draining, and since when."""

    reason: str
    since_ms: int

    def to_json(self) -> dict[str, Any]:
        """As stats and health show it."""
        return {"reason": self.reason or None, "since": iso(self.since_ms)}


@dataclass(frozen=True, slots=True)
class Closures:
    """Which queues start nothing and which take nothing in; `*` stands for all."""

    paused: dict[str, Closure]
    draining: dict[str, Closure]

    def to_json(self) -> dict[str, Any]:
        """As stats and health show it: queue (or `all`) -> reason and moment."""
        return {"paused": _named(self.paused), "draining": _named(self.draining)}


def _named(closures: dict[str, Closure]) -> dict[str, Any]:
    return {"all" if queue == "*" else queue: closure.to_json() for queue, closure in closures.items()}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a pending job waits.

    ahead: how many jobs start before it. blocked_by: delay, paused, no_worker, chat_limit, slots, or none (it is next);
    detail: the pause's reason or the limit. estimated_start_ms: from recent durations; 0 if nobody can know.
    """

    ahead: int
    blocked_by: str
    detail: str
    estimated_start_ms: int

    def to_json(self) -> dict[str, Any]:
        """As the record of a pending job shows it."""
        return {
            "position": self.ahead + 1,
            "blockedBy": None if self.blocked_by == "none" else self.blocked_by,
            "detail": self.detail or None,
            "estimatedStartAt": iso(self.estimated_start_ms),
        }


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs are kept: by age, number and bytes (requests, logs, artifacts); 0 for no bound."""

    max_age_ms: int = 0
    max_jobs: int = 0
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed by no fault of its own; `cursor` is its place in the list."""

    job: Job
    cursor: int
