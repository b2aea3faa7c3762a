"""What the store is told and answers, beside the values of jobs.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from events import USUAL_EVENTS, Delivery, Event
from jobs import Job, OutputChunk, Status, iso
from neighbours import word
from rates import Taken


@dataclass(frozen=True, slots=True)
class Rules:
    """What the moves keep to; the scripts know each by its name in capitals.

    max_stalls: how often a job may lose its worker and still be tried again.
    chat_limit: how many jobs of one chat run at once; 0 for no bound.
    queue_bound: how many jobs may wait in one queue.
    ageing_ms: how long a job waits before its priority gets a share of the claims.
    remember_key_ms: how long an idempotency key is remembered.
    same_request_ms: how long the same fingerprint means the same job.
    quota_queued, quota_cpu_ms, quota_bytes: what one tenant may have waiting, use in an hour, and keep; 0 for no bound.
    events: what is told about jobs; other events are never put into the outbox.
    """

    max_stalls: int = 2
    chat_limit: int = 0
    queue_bound: int = 10_000
    ageing_ms: int = 600_000
    remember_key_ms: int = 86_400_000
    same_request_ms: int = 60_000
    events: frozenset[Event] = USUAL_EVENTS
    quota_queued: int = 0
    quota_cpu_ms: int = 0
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job a submission led to; `created` is False if it was there already. `taken` is how its rates stand."""

    job: Job
    created: bool
    taken: tuple[Taken, ...] = ()


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
class Query:
    """Which jobs are wanted, newest first.

    indexes: what they all are, in the words of lua/index.lua: `status:failed`, `tag:nightly`, `chat:…`.
    text: what id, message or tags must hold; case does not count for ASCII letters.
    from_ms, to_ms: when they came in, both inclusive; 0 for no bound. below: the cursor, 0 at the beginning.
    """

    limit: int = 50
    indexes: tuple[str, ...] = ()
    text: str = ""
    from_ms: int = 0
    to_ms: int = 0
    below: int = 0
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs that were found, and the cursor to go on from, 0 after the last. It may be short, or empty, in between."""

    jobs: tuple[Job, ...]
    below: int


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened to a job: `kind` is state, progress or log. `id` is its place among all that happened.

    `line` is how many lines the log has after it; of a log, `first` is how many it had before. `data` is how the job
    stood then, as `happen` of lua/index.lua writes it; a log has none.
    """

    id: tuple[int, int]
    job_id: str
    kind: str
    line: int
    first: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    tenant: str = ""

    @property
    def is_end(self) -> bool:
        """True if nothing more will happen to the job."""
        return self.kind == "state" and word(Status, self.data["status"]).is_final


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to one job so far, and a part of its log, as they stood together at one moment."""

    has_ended: bool
    happenings: tuple[Happening, ...]
    chunks: tuple[OutputChunk, ...]


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


#: What can become of a delivery: it is still to be made, the receiver has it, or it is not tried any more.
DELIVERY_STATES = ("pending", "accepted", "exhausted")


@dataclass(frozen=True, slots=True)
class Listed:
    """A delivery with its history. `due_ms` is when it is tried next (while it is being tried: again), 0 for never.

    `tries` are the last twenty, each with at_ms, status, duration_ms and note; `cursor` is its place in the lists.
    """

    delivery: Delivery
    state: str
    due_ms: int
    tries: tuple[dict[str, Any], ...]
    cursor: int
    tenant: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the delivery log shows it."""
        return {
            "id": self.delivery.id,
            "webhookId": self.delivery.message_id,
            "jobId": self.delivery.job_id,
            "event": self.delivery.event,
            "endpoint": self.delivery.endpoint,
            "state": self.state,
            "attempt": self.delivery.attempt,
            "createdAt": iso(self.delivery.created_ms),
            "nextTryAt": iso(self.due_ms),
            "tries": [_try(each) for each in self.tries],
        }


def _try(stored: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": iso(stored["at_ms"]),
        "status": stored["status"] or None,
        "durationMs": stored["duration_ms"],
        "note": stored["note"],
    }


@dataclass(frozen=True, slots=True)
class Lane:
    """How it stands with one endpoint. `lag_ms` is the age of the oldest delivery that is pending.

    `last_ms` is the moment of the last try, `last_status` and `last_note` what it came to; `disabled_ms` is 0 unless
    the receiver said that it is gone for good (410).
    """

    pending: int = 0
    exhausted: int = 0
    lag_ms: int = 0
    last_ms: int = 0
    last_status: int = 0
    last_note: str = ""
    accepted_ms: int = 0
    disabled_ms: int = 0
    disabled_note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As stats shows it."""
        tried = {"at": iso(self.last_ms), "status": self.last_status or None, "note": self.last_note}
        disabled = {"since": iso(self.disabled_ms), "note": self.disabled_note}
        return {
            "pending": self.pending,
            "exhausted": self.exhausted,
            "lagMs": self.lag_ms,
            "lastTry": tried if self.last_ms else None,
            "lastAcceptedAt": iso(self.accepted_ms),
            "disabled": disabled if self.disabled_ms else None,
        }


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that gives signs of life: for how long the last one is past (ms), and how many jobs it runs at once.

    `facts` is what it says of itself, `jobs` the ids of those it runs; a drained one takes no more.
    """

    name: str
    beat_age_ms: int
    slots: int
    facts: dict[str, Any]
    drained: bool
    jobs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "name": self.name,
            "slots": self.slots,
            "jobs": list(self.jobs),
            "drained": self.drained,
            "heartbeatAgeMs": self.beat_age_ms,
            **self.facts,
        }
