"""The vocabulary: what a job is, where in its life it can be, and how it can end."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal

import compact
from calls import Call, Package, Quota
from events import Delivery, Endpoint
from neighbours import known
from reasons import Conclusion, Reason, ReasonClass
from submission import RetryRule

# Reasons, functions and webhooks are part of this vocabulary, in files of their own.
__all__ = [
    "ID_CHARS",
    "QUEUES",
    "QUEUE_NAMES",
    "STEPS",
    "TRANSITIONS",
    "Artifact",
    "Call",
    "Claim",
    "Conclusion",
    "Delivery",
    "Endpoint",
    "Job",
    "JobType",
    "Limits",
    "OutputChunk",
    "Package",
    "Phase",
    "PhaseTime",
    "Quota",
    "Reason",
    "ReasonClass",
    "Request",
    "Result",
    "Retry",
    "Status",
    "diagram",
    "is_id",
    "iso",
    "new_id",
]


class JobType(StrEnum):
    """What a job does; executor/recipes.py has one row for each, functions.py beside it the last."""

    BUILD = "build"
    TEST = "test"
    LINT = "lint"
    ANALYZE = "analyze"
    FUNCTION = "function"


#: Which queue a type waits in. Stats, pauses and bounds are per queue.
QUEUES: dict[JobType, str] = {
    JobType.BUILD: "builds",
    JobType.TEST: "tests",
    JobType.LINT: "lint",
    JobType.ANALYZE: "lint",
    JobType.FUNCTION: "functions",
}
QUEUE_NAMES: tuple[str, ...] = tuple(dict.fromkeys(QUEUES.values()))
#: What a job may do one after the other, with one project and one install.
STEPS: tuple[JobType, ...] = (JobType.BUILD, JobType.TEST, JobType.LINT, JobType.ANALYZE)


class Status(StrEnum):
    """Where a job is in its life. Existing clients stop polling only at the last two."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """True once the job has ended; it never changes again."""
        return self in (Status.COMPLETED, Status.FAILED)


#: The only moves there are: name -> (statuses it may start from, status it leads to).
#: The Lua scripts receive the origins from here; docs/design.md prints this table as a diagram.
TRANSITIONS: dict[str, tuple[frozenset[Status], Status]] = {
    "claim": (frozenset({Status.PENDING}), Status.ACTIVE),
    "complete": (frozenset({Status.ACTIVE}), Status.COMPLETED),
    "fail": (frozenset({Status.ACTIVE}), Status.FAILED),
    "retry": (frozenset({Status.ACTIVE}), Status.PENDING),
    "release": (frozenset({Status.ACTIVE}), Status.PENDING),
    "takeover": (frozenset({Status.ACTIVE}), Status.PENDING),
    "give_up": (frozenset({Status.ACTIVE}), Status.FAILED),
    "cancel": (frozenset({Status.PENDING}), Status.FAILED),
    "expire": (frozenset({Status.PENDING}), Status.FAILED),
}


class Phase(StrEnum):
    """The part of a run that is under way; progress is monotone over them."""

    PREPARING = "preparing"
    INSTALLING = "installing"
    BUILDING = "building"
    TESTING = "testing"
    LINTING = "linting"
    ANALYZING = "analyzing"
    INVOKING = "invoking"
    COLLECTING = "collecting"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use. Times are wall clock; `total_s` covers the whole run, the others one phase each.

    `output_bytes` is how much a job may print before it is ended; how much of that is kept is the log's part.
    """

    memory_bytes: int
    cpus: float
    pids: int
    total_s: float
    install_s: float
    command_s: float
    collect_s: float = 60.0
    disk_bytes: int = 1 << 30
    output_bytes: int = 1 << 30
    artifact_bytes: int = 100 << 20
    artifact_files: int = 2_000
    log_head_bytes: int = 4 << 20
    log_tail_bytes: int = 1 << 20
    log_line_bytes: int = 16 << 10

    @property
    def disk_files(self) -> int:
        """How many files and folders a workspace may hold."""
        return self.disk_bytes >> 12

    def changed(self, wanted: Mapping[str, float]) -> Limits:
        """These limits with those that one job asked for, by the names of the fields."""
        return replace(self, **wanted)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for, checked (see intake.py). The store keeps it beside the record; no answer shows it
    but a job's bundle, and that without the values of `env`.

    `files` maps canonical relative paths to text, `binary` those of files that are no valid UTF-8 to their base64.
    `artifacts` are globs that choose what is kept, in place of the type's output folders. `dependencies` has the keys
    of a package.json (dependencies, devDependencies, peerDependencies), each a map of package name to version. `env`
    reaches the job's commands only.
    `limits` holds the fields of Limits in which this job differs from the service's default. `steps`: in place of what
    the type does, these types in this order, up to the first that fails (`on_failure` stop) or all (continue).
    `fail_on` is the least severe finding that fails a lint. `language` is node or python; "" is what the files tell.
    `keep_sandbox`: if the job fails, its workspace stays for a while, for somebody to look into.
    `call` is what a function job calls; the dependencies of one in Python are names and specifiers of its index.
    """

    type: JobType
    files: dict[str, str]
    priority: int = 5
    chat_id: str = ""
    dependencies: dict[str, dict[str, str]] = field(default_factory=dict)
    command: str = ""
    test_command: str = ""
    env: dict[str, str] = field(default_factory=dict)
    install_scripts: bool = False
    limits: dict[str, float] = field(default_factory=dict)
    use_cache: bool = True
    steps: tuple[JobType, ...] = ()
    on_failure: Literal["stop", "continue"] = "stop"
    fail_on: Literal["error", "warning", "never"] = "error"
    language: Literal["", "node", "python"] = ""
    call: Call | None = None
    binary: dict[str, str] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    keep_sandbox: bool = False

    @property
    def asks(self) -> list[str]:
        """What this differs in from the plainest request of its type. A worker that knows less may not run it."""
        return _REQUEST.own(self) + [f"call.{name}" for name in (_CALL.own(self.call) if self.call else ())]

    @classmethod
    def all_asks(cls) -> frozenset[str]:
        """Everything that `asks` may hold in this release."""
        return frozenset([*(item.name for item in fields(cls)), *(f"call.{item.name}" for item in fields(Call))])

    def to_bytes(self) -> bytes:
        """As the store keeps it: UTF-8 JSON, packed if it is long."""
        # What is as usual is left out: an older release has no name for some of it. asdict would copy every file.
        values = {name: getattr(self, name) for name in ("type", "files", *self.asks) if "." not in name}
        if self.call is None:
            return compact.packed(compact.dumps(values))
        # What a call is given may hold numbers beyond a double's range, which only this module keeps.
        whole = json.dumps(values | {"call": self.call.to_json()}, ensure_ascii=False, separators=(",", ":"))
        return compact.packed(whole.encode())

    @classmethod
    def known_of(cls, stored: bytes) -> Request:
        """from_bytes() without what this release does not know: to be shown, not to be run."""
        values = known(cls, json.loads(compact.unpacked(stored)))
        call = known(Call, values["call"]) if values.get("call") else None
        return cls.from_bytes(json.dumps(values | {"call": call}).encode())

    @classmethod
    def from_bytes(cls, stored: bytes) -> Request:
        """The inverse of to_bytes. Raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(compact.unpacked(stored))
        steps = tuple(JobType(each) for each in fields.get("steps", ()))
        call = Call.from_json(fields["call"]) if fields.get("call") else None
        artifacts = tuple(fields.get("artifacts", ()))
        kind = JobType(fields["type"])
        return cls(**{**fields, "type": kind, "steps": steps, "call": call, "artifacts": artifacts})


class _Usual:
    """The fields of a dataclass that have defaults."""

    def __init__(self, of: type[Request | Call]) -> None:
        made = {item.name: item.default_factory() for item in fields(of) if item.default_factory is not MISSING}
        self._defaults = made | {item.name: item.default for item in fields(of) if item.default is not MISSING}
        self._values = attrgetter(*self._defaults)

    def own(self, holder: Request | Call) -> list[str]:
        """Names of those in which this one differs."""
        given = zip(self._defaults.items(), self._values(holder), strict=True)
        return [name for (name, usual), value in given if value != usual]


_REQUEST, _CALL = _Usual(Request), _Usual(Call)


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Consecutive whole lines of one stream in one phase, as they arrived together.

    `first_line` counts all lines of the job's output from 0, dropped ones included, over all attempts.
    `text` is valid Unicode with `lines` newline-ended lines. `dropped_lines`/`dropped_bytes` is what is missing
    directly before this chunk (the gap between the kept head and the kept tail).
    """

    first_line: int
    lines: int
    at_ms: int
    phase: str
    stream: str
    text: str
    dropped_lines: int = 0
    dropped_bytes: int = 0

    @property
    def end_line(self) -> int:
        """The number of the line after the last one of this chunk."""
        return self.first_line + self.lines


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file a job produced: its path below the output folder, size in bytes, and sha256 in hex."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """As the API and the webhook show it."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """How long one phase of a run took."""

    name: str
    duration_ms: int

    def to_json(self) -> dict[str, Any]:
        """As the API and the webhook show it."""
        return {"name": self.name, "durationMs": self.duration_ms}


@dataclass(frozen=True, slots=True)
class Result:
    """What one attempt came to. `reason` is None exactly when `conclusion` is success.

    `message` is one text a person can act on (at most 4,000 characters); `output_tail` the last lines of the failing
    step. `detail` holds the type's own figures (JSON-able). `skipped` lists output entries that were not taken, each
    with why.
    """

    conclusion: Conclusion
    reason: Reason | None = None
    message: str = ""
    command: str = ""
    exit_code: int | None = None
    phases: tuple[PhaseTime, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()
    output_tail: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The final status this result leads to if it is not retried."""
        return Status.COMPLETED if self.conclusion is Conclusion.SUCCESS else Status.FAILED

    def to_json(self) -> dict[str, Any]:
        """The `result` field of the record."""
        return {
            "exitCode": self.exit_code,
            "command": self.command,
            "phases": [phase.to_json() for phase in self.phases],
            "skippedArtifacts": list(self.skipped),
            "outputTail": self.output_tail,
            **self.detail,
        }


@dataclass(frozen=True, slots=True)
class Job:
    """A job's record as the store keeps it. Moments are Unix milliseconds of Redis' clock; 0 means not yet.

    `webhook` names the endpoints that are told about it; None is the one called default. `tenant` is whose job it is;
    "" where no keys are in use. `trace` is the place in a trace that its story goes on from, "" if there is none.
    """

    id: str
    type: JobType
    status: Status
    priority: int
    created_ms: int
    chat_id: str = ""
    run_at_ms: int = 0
    expires_at_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    fence: int = 0
    attempt: int = 0
    infra_failures: int = 0
    user_failures: int = 0
    stalls: int = 0
    progress: int = 0
    phase: str = ""
    owner: str = ""
    conclusion: str = ""
    reason: str = ""
    message: str = ""
    cancel_reason: str = ""
    cancel_message: str = ""
    replay_of: str = ""
    log_lines: int = 0
    seq: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    artifacts: tuple[dict[str, Any], ...] = ()
    attempts: tuple[dict[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    retry: RetryRule | None = None
    webhook: tuple[str, ...] | None = None
    tenant: str = ""
    trace: str = ""

    @property
    def queue(self) -> str:
        """The queue this job waits in."""
        return QUEUES.get(self.type, "")

    @property
    def duration_ms(self) -> int:
        """From the first start to the end; 0 while the job has not ended."""
        return max(0, self.finished_ms - self.started_ms) if self.finished_ms and self.started_ms else 0

    def to_json(self) -> dict[str, Any]:
        """The public record. Never holds `env` or file contents: the request is not part of it."""
        body: dict[str, Any] = {
            "jobId": self.id,
            "type": self.type.value,
            "status": self.status.value,
            "progress": self.progress,
            "phase": self.phase or None,
            "priority": self.priority,
            "chatId": self.chat_id or None,
            "createdAt": iso(self.created_ms),
            "runAt": iso(self.run_at_ms),
            "expiresAt": iso(self.expires_at_ms),
            "startedAt": iso(self.started_ms),
            "finishedAt": iso(self.finished_ms),
            "durationMs": self.duration_ms if self.finished_ms else None,
            "waitMs": max(0, self.started_ms - self.created_ms) if self.started_ms else None,
            "attempt": self.attempt,
            "conclusion": self.conclusion or None,
            "reason": self.reason or None,
            "message": self.message or None,
            "result": self.result or None,
            "artifacts": list(self.artifacts),
            "attempts": list(self.attempts),
            "tags": list(self.tags),
            "metadata": self.metadata,
            "logs": {"lines": self.log_lines, "href": f"/api/jobs/{self.id}/logs"},
        }
        if self.cancel_reason and not self.status.is_final:
            body["cancelRequested"] = {"reason": self.cancel_reason, "message": self.cancel_message or None}
        if self.retry:
            body["retry"] = self.retry.to_json()
        if self.tenant:
            body["tenant"] = self.tenant
        if self.replay_of:
            body["replayOf"] = self.replay_of
        if self.webhook is not None:
            body["webhook"] = list(self.webhook)
        return body


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker that asks for work gets: a job that is now its own, or for how long nothing can be due."""

    job: Job | None
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """The decision to try a job again after `delay_ms`, and why. `counts_as` names the budget that pays for it."""

    delay_ms: int
    why: str
    counts_as: Literal["infrastructure", "user"] = "infrastructure"


def iso(moment_ms: int) -> str | None:
    """Unix milliseconds as ISO-8601 UTC with milliseconds, or None for 0."""
    if not moment_ms:
        return None
    return f"{_second(moment_ms // 1000)}.{moment_ms % 1000:03d}Z"


@functools.lru_cache(maxsize=64)
def _second(moment_s: int) -> str:
    """One second after the other is shown many times, and working out its date takes longer than the rest."""
    return datetime.fromtimestamp(moment_s, UTC).isoformat()[:19]


#: How long an id is: job- and 32 hexadecimal digits.
ID_CHARS = 36


def new_id() -> str:
    """A new job id, unique over all types and unguessable (128 random bits)."""
    return "job-" + secrets.token_hex(16)


def is_id(text: str) -> bool:
    """True if `text` has the form of a job id; anything else is answered 404 before Redis is asked."""
    return len(text) == ID_CHARS and text.startswith("job-") and all(c in "0123456789abcdef" for c in text[4:])


def diagram() -> str:
    """TRANSITIONS as a Mermaid state diagram; docs/design.md shows it and a test compares."""
    edges = [
        f"    {origin} --> {target}: {move}"
        for move, (origins, target) in TRANSITIONS.items()
        for origin in sorted(origins)
    ]
    ends = [f"    {status} --> [*]" for status in Status if status.is_final]
    return "\n".join(["stateDiagram-v2", "    [*] --> pending: add", *edges, *ends])
