"""What a caller may ask for beside the work itself: when, how often, once or anew, and with which notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from neighbours import word
from rates import Rate
from reasons import Reason


@dataclass(frozen=True, slots=True)
class RetryRule:
    """A caller's wish to try a job again: up to `attempts` runs in all, for these reasons only.

    `delay_ms` is the wait before the second attempt; with exponential backoff it doubles each time.
    """

    attempts: int
    on: tuple[Reason, ...]
    delay_ms: int = 1_000
    backoff: Literal["fixed", "exponential"] = "exponential"

    def to_json(self) -> dict[str, Any]:
        """As the record shows it and the store keeps it."""
        return {"attempts": self.attempts, "on": list(self.on), "delayMs": self.delay_ms, "backoff": self.backoff}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> RetryRule:
        """The inverse of to_json. Raises ValueError, KeyError or TypeError for anything else."""
        reasons = tuple(word(Reason, name) for name in body["on"])
        return cls(int(body["attempts"]), reasons, int(body["delayMs"]), body["backoff"])


@dataclass(frozen=True, slots=True)
class Options:
    """How a job is to be taken in. Spans are in milliseconds from now, moments Unix milliseconds; 0 means none.

    idempotency_key: the same key and `body_hash` again answers the same job; another hash is a conflict.
    fingerprint: the same fingerprint, shortly after and while the first job is not finished, answers the same job.
    delay_ms, run_at_ms: the job starts no earlier (the later of the two counts).
    expires_in_ms: the job fails as expired if it has not started by then.
    job_id: the id that the job gets, if the caller has chosen one (jobs.new_id).
    supersede: older unfinished jobs of the same chat and type are cancelled.
    webhook: names of the endpoints that are told about the job; None for the one called default.
    rates: the rate limits that the submission counts against.
    trace: the place in a trace that the job goes on from, as tracing.Place.text has it.
    tenant: whose job it is; keys, fingerprints and chats of different tenants have nothing to do with each other.
    """

    idempotency_key: str = ""
    body_hash: str = ""
    fingerprint: str = ""
    delay_ms: int = 0
    run_at_ms: int = 0
    expires_in_ms: int = 0
    supersede: bool = False
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    retry: RetryRule | None = None
    replay_of: str = ""
    webhook: tuple[str, ...] | None = None
    job_id: str = ""
    tenant: str = ""
    rates: tuple[Rate, ...] = ()
    trace: str = ""
