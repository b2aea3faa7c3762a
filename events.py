"""The vocabulary of webhooks: what is told about a job, to whom, and one message on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

#: The endpoint that is told about jobs which name none.
DEFAULT_ENDPOINT = "default"


class Event(StrEnum):
    """What can be told about a job."""

    QUEUED = "job.queued"
    STARTED = "job.started"
    PROGRESS = "job.progress"
    RETRYING = "job.retrying"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"

    @property
    def path(self) -> str:
        """Which of an endpoint's two paths takes it: `result` for the three ends, `progress` for the way there."""
        return "result" if self in ENDS else "progress"


#: The last event of a job is one of these, and none of them is anything but the last.
ENDS = frozenset({Event.COMPLETED, Event.FAILED, Event.CANCELLED})
#: What is told if the settings do not say otherwise.
USUAL_EVENTS = ENDS | {Event.PROGRESS}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver of webhooks. `url` has no closing slash; `paths` has one path for results and one for progress.

    One that stores files has a path called upload too, and `storage`, the address of its Convex deployment.

    `secrets` are those that sign, the newest first; `ca_bundle` is a PEM file of the only certificate authorities to
    trust, or empty for the system's and certifi's. `private` allows a public name to lead to a private address.
    """

    url: str
    secrets: tuple[str, ...] = field(repr=False)
    paths: dict[str, str]
    ca_bundle: str = ""
    private: bool = False
    storage: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """The job as it was at `at_ms`, which is what an event before the end tells; `reason` and `message` say why."""

    status: str
    attempt: int
    progress: int
    phase: str
    at_ms: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint. `seq` orders the events of a job.

    `attempt` counts the tries since it was sent or resent, from 1; `fence` counts all of them, and tells two senders of
    the same delivery apart.
    """

    id: str
    job_id: str
    event: Event
    endpoint: str
    attempt: int
    fence: int
    created_ms: int
    seq: int
    news: News

    @property
    def message_id(self) -> str:
        """The webhook-id: the same over all tries, and for all endpoints that are told of this event."""
        return f"{self.job_id}-{self.seq}"


@dataclass(frozen=True, slots=True)
class Try:
    """What one try came to: the HTTP status (0 without an answer), how long it took, and what the log says."""

    status: int = 0
    duration_ms: int = 0
    note: str = ""
