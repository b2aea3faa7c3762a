"""What the API answers, as models: for its description and the names of fields. Answers are made without them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from jobs import Conclusion, JobType, Reason, Status

Moment = str | None


class Answered(BaseModel):
    """Base of all: camelCase, and open to fields that are not described."""

    model_config = ConfigDict(alias_generator=to_camel)


class About(Answered):
    """What answers here."""

    service: str
    version: str
    status: str
    timestamp: str


class Health(Answered):
    """Whether jobs can be taken, run and read."""

    status: Literal["healthy", "degraded", "unhealthy"]
    redis: Literal["connected", "unreachable"]
    error: str = ""
    message: str = ""
    version: str
    timestamp: str


class Stats(Answered):
    """Figures per queue, what happened how often, and how it stands with the receivers of webhooks."""

    timestamp: str
    queues: dict[str, dict[str, int]]
    counters: dict[str, int]
    webhooks: dict[str, Any] = {}  # for callers who see all tenants
    paused: dict[str, Any]
    draining: dict[str, Any]


class Created(Answered):
    """A submission that was taken in."""

    job_id: str
    type: JobType
    status: Status
    created_at: str


class Attempt(Answered):
    """One run of a job."""

    attempt: int
    started_at: Moment
    finished_at: Moment
    worker: str
    conclusion: Conclusion
    reason: Reason | None
    message: str | None
    logs: dict[str, int]
    decision: Literal["final", "retry"]
    why: str | None
    retry_delay_ms: int | None


class File(Answered):
    """A file that a job made."""

    path: str
    size: int
    sha256: str


class LogLink(Answered):
    """How long a job's log is, and where it is; `text` is its end, if that was asked for."""

    lines: int
    href: str
    text: str | None = None


class Waiting(Answered):
    """Why a job waits."""

    position: int
    blocked_by: str | None
    detail: str | None
    estimated_start_at: Moment


class Summary(Answered):
    """A job's record without what may be large."""

    job_id: str
    type: JobType
    status: Status
    progress: int
    phase: str | None
    priority: int
    chat_id: str | None
    created_at: str
    run_at: Moment
    expires_at: Moment
    started_at: Moment
    finished_at: Moment
    duration_ms: int | None
    wait_ms: int | None
    attempt: int
    conclusion: Conclusion | None
    reason: Reason | None
    message: str | None
    tags: list[str]
    metadata: dict[str, Any]
    logs: LogLink
    cancel_requested: dict[str, Any] | None = None
    retry: dict[str, Any] | None = None
    replay_of: str | None = None
    webhook: list[str] | None = None


class Record(Summary):
    """All that is known about a job. Its request is not part of it."""

    result: dict[str, Any] | None
    artifacts: list[File]
    attempts: list[Attempt]
    waiting: Waiting | None = None


class JobList(Answered):
    """Jobs; `next` is the cursor of the following page, null after the last. A page may be short, or empty, before it.

    With `fields` the jobs have just those.
    """

    jobs: list[dict[str, Any]]
    next: str | None
    missing: list[str] | None = Field(None, description="ids that were asked for and are not there")


class BatchResult(Answered):
    """What one submission of a batch would have been answered alone."""

    http_status: int
    job: Created | None = None
    problem: dict[str, Any] | None = None


class BatchResults(Answered):
    """The answers in the order of the submissions."""

    results: list[BatchResult]
    created: int


class LinkedFile(File):
    """A file that a job made, and where it is."""

    href: str


class FileList(Answered):
    """The files that a job made."""

    job_id: str
    artifacts: list[LinkedFile]
    total_bytes: int


class DeadLetters(Answered):
    """Jobs that failed by no fault of theirs."""

    dead_letters: list[Record]
    next: int | None


class Replayed(Answered):
    """Dead letters that run anew, each with its new job."""

    replayed: list[dict[str, str]]
    count: int


class Closures(Answered):
    """Queue (or `all`) with reason and moment: which start nothing, which take nothing in."""

    paused: dict[str, Any]
    draining: dict[str, Any]


class DeliveryOfJob(Answered):
    """What was told about a job."""

    job_id: str
    deliveries: list[dict[str, Any]]


class DeliveryList(Answered):
    """Deliveries in one state."""

    state: str
    deliveries: list[dict[str, Any]]
    next: int | None


class Resent(Answered):
    """A delivery that goes out again."""

    id: str
    state: str


class Trials(Answered):
    """How the test of each receiver went."""

    results: list[dict[str, Any]]
    accepted: bool


class Lane(Answered):
    """How it stands with one receiver."""

    endpoint: str
    pending: int
    exhausted: int


class Workers(Answered):
    """The workers that give signs of life."""

    timestamp: str
    workers: list[dict[str, Any]]


class Drained(Answered):
    """Whether a worker takes jobs."""

    name: str
    drained: bool


class Schedule(Answered):
    """A job template and when it runs."""

    schedule_id: str
    name: str | None
    overlap: str
    catch_up: str
    paused: bool


class ScheduleList(Answered):
    """All schedules."""

    schedules: list[Schedule]


class Version(Answered):
    """A version of a function."""

    version: int
    state: Literal["making", "ready", "failed"]
    created_at: str
    runtime: str
    handler: str
    job_id: str


class FunctionList(Answered):
    """All functions."""

    functions: list[dict[str, Any]]
    count: int
    most: int


class Function(Answered):
    """A function with its versions."""

    name: str
    current: int | None
    versions: list[Version]


class Problem(Answered):
    """What went wrong, as RFC 9457 says; `errors` has every wrong field."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    message: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[dict[str, str]] | None = None


#: The names of a record's fields, as answers show them.
FIELDS = tuple(str(field.alias) for name, field in Record.model_fields.items() if name != "waiting")
