"""The form of a submission: what its fields may hold, and how each mistake in them is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jiter
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

import allowance
import steps
from errors import InvalidRequest, Mistake
from jobs import JobType, Reason, ReasonClass
from npm import package_fault, version_fault
from receivers import NONE
from submission import Options, RetryRule
from tree import Room, token, utf8_length

MAX_FIELDS = 64
MAX_MISTAKES = 50
MAX_CHAT_ID = 200
MAX_COMMAND = 4_096
MAX_PACKAGES = 1_000
MAX_VARIABLES = 100
MAX_ENV_BYTES = 64 << 10
MAX_DAYS = 30
MAX_TAGS = 20
MAX_METADATA_BYTES = 4_096
MAX_ATTEMPTS = 10
MAX_GLOBS = 20
MAX_URL = 2_048
#: The maps of a package.json that a nested `dependencies` may hold. A flat one means the first.
SECTIONS = ("dependencies", "devDependencies", "peerDependencies")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one project may hold: number of files, and bytes of all their texts in UTF-8.

    `endpoints` are the receivers of webhooks that a job may name, `limits` what it may ask for. `keeps_sandboxes`:
    whether a job may have its sandbox kept if it fails.
    """

    max_files: int = 2_000
    max_project_bytes: int = 10 << 20
    endpoints: tuple[str, ...] = ()
    limits: allowance.Allowance | None = None
    keeps_sandboxes: bool = False

    @property
    def room(self) -> Room:
        """For one project's files."""
        return Room(self.max_files, self.max_project_bytes)


def _whole(given: Any) -> Any:
    """JSON knows one kind of number: 5.0 is 5."""
    if not isinstance(given, dict) or float not in map(type, given.values()):
        return given
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in given.items()
    }


class Edge(BaseModel):
    """camelCase outside, no unknown fields, no conversions. A description is the rule that a mistake quotes."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: Any) -> Any:
        return _whole(given)


class JobData(Edge):
    """What to run: the files of a project and how to treat them."""

    project_files: dict[str, Any] = Field(
        default_factory=dict, description="a map of file paths to their text, with at least one file"
    )
    upload_id: str = Field(
        "", pattern=r"^upload-[0-9a-f]{32}$", description="the uploadId that PUT /api/uploads answered"
    )
    snapshot_url: str = Field(
        "",
        max_length=MAX_URL,
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-\[\]-~]*)?$",
        description="the http(s) address of a Chef snapshot",
    )
    from_job: str = Field("", pattern=r"^job-[0-9a-f]{32}$", description="the jobId of an earlier job")
    artifacts: list[str] = Field(
        default_factory=list,
        max_length=MAX_GLOBS,
        description=f"a list of at most {MAX_GLOBS} globs, such as dist/**/*.js or report.html",
    )
    chat_id: str = Field(
        "",
        max_length=MAX_CHAT_ID,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
        description=f"a string of at most {MAX_CHAT_ID} characters, without control characters",
    )
    dependencies: dict[str, Any] = Field(
        default_factory=dict,
        description=f"a map of package names to versions, or a map of {', '.join(SECTIONS)} to such maps",
    )
    command: str = Field(
        "",
        max_length=MAX_COMMAND,
        pattern=r"^[^\x00]*$",
        description=f"a string of at most {MAX_COMMAND:,} characters, without NUL",
    )
    test_command: str = Field(
        "",
        max_length=MAX_COMMAND,
        pattern=r"^[^\x00]*$",
        description=f"a string of at most {MAX_COMMAND:,} characters, without NUL",
    )
    env: dict[str, Any] = Field(default_factory=dict, description="a map of variable names to strings")
    strategy: str = Field("", description="a string; it is accepted for older clients and changes nothing")
    install_scripts: bool = Field(default=False, description="true or false")
    steps: list[Any] = Field(default_factory=list, min_length=1, description=steps.DESCRIPTION)
    on_failure: Literal["stop", "continue"] = Field("stop", description="stop or continue")
    fail_on: Literal["error", "warning", "never"] = Field("error", description="error, warning or never")
    language: Literal["", "node", "python"] = Field("", description="node or python")


def _text(value: object) -> object:
    """A moment is written as text: a bare number could mean seconds or milliseconds."""
    if not isinstance(value, str):
        raise ValueError("not a string")  # noqa: TRY004  (pydantic reports ValueErrors, and lets others through)
    return value


_MAX_MS = MAX_DAYS * 86_400_000
Moment = Annotated[AwareDatetime, BeforeValidator(_text)]
Names = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]
#: What a job may ask to be tried again for: what its project caused, and running out of memory.
RETRIED = {str(reason): reason for reason in Reason if reason.reason_class is ReasonClass.USER} | {
    "oom": Reason.OUT_OF_MEMORY
}


class RetryWish(Edge):
    """When a job is to be tried again although nothing is wrong with the machine."""

    attempts: int = Field(ge=1, le=MAX_ATTEMPTS, description=f"a whole number from 1 to {MAX_ATTEMPTS}")
    on: list[str] = Field(min_length=1, max_length=len(RETRIED), description=f"a list of {', '.join(RETRIED)}")
    delay_ms: int = Field(1_000, ge=0, le=3_600_000, description="a whole number of milliseconds up to 3,600,000")
    backoff: Literal["fixed", "exponential"] = Field("exponential", description="fixed or exponential")


class Submission(Edge):
    """The body of POST /api/jobs."""

    type: JobType = Field(strict=False, description=f"one of {', '.join(JobType)}")
    priority: int = Field(
        5, ge=1, le=20, description="a whole number from 1 to 20; larger runs first, 5 is the default"
    )
    data: JobData = Field(description="an object with projectFiles")
    run_at: Moment | None = Field(
        None, strict=False, description="a moment such as 2026-12-01T08:00:00Z, with its time zone"
    )
    delay_ms: int = Field(0, ge=0, le=_MAX_MS, description=f"a whole number of milliseconds, at most {MAX_DAYS} days")
    expires_in: int = Field(
        0, ge=0, le=MAX_DAYS * 86_400, description=f"a whole number of seconds, at most {MAX_DAYS} days; 0 means never"
    )
    supersede: bool = Field(default=False, description="true or false")
    tags: list[Tag] = Field(
        default_factory=list,
        max_length=MAX_TAGS,
        description=f"a list of at most {MAX_TAGS} words of up to 64 letters, digits and . _ : / -",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description=f"an object of at most {MAX_METADATA_BYTES:,} bytes as JSON"
    )
    retry: RetryWish | None = Field(None, description="an object with attempts and on")
    limits: Annotated[dict[str, Any], BeforeValidator(_whole)] = Field(
        default_factory=dict, description=f"an object of {', '.join(allowance.FIELDS)}"
    )
    cache: Literal["on", "off"] = Field("on", description="on or off; off: neither use nor keep what jobs share")
    keep_sandbox: bool = Field(
        default=False, description="true or false; true needs a service that keeps sandboxes (KEPT_SANDBOXES)"
    )
    webhook: Names | None = Field(
        None, description="the name of an endpoint in the service's settings, a list of such names, or none"
    )


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`: UTF-8, standard numbers only, unique keys, not deeply nested.

    Raises:
        InvalidRequest: It is anything else.
    """
    try:
        document = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        # The parser's message holds a place, and for a key that comes twice its name; 200 characters are enough of it.
        raise refused(f"The body must be JSON in UTF-8 without a byte-order mark: {str(error)[:200]}.") from None
    if not isinstance(document, dict):
        raise refused("The body must be a JSON object.")
    require_few_fields(document)
    return document


def require_few_fields(document: dict[str, Any]) -> None:
    """Raise InvalidRequest if the body or its data has more fields than are worth reading."""
    for pointer, fields in (("#", document), ("#/data", document.get("data"))):
        if isinstance(fields, dict) and len(fields) > MAX_FIELDS:
            raise refused(f"This object has {len(fields):,} fields; at most {MAX_FIELDS} are read.", pointer)


def refused(detail: str, pointer: str = "#") -> InvalidRequest:
    """The error for one mistake."""
    return InvalidRequest([Mistake(pointer, detail)])


def map_of(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The map called `name`; empty if it is absent or of another kind, which its field's rule reports."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def listed(mistakes: list[Mistake]) -> list[Mistake]:
    """The first mistakes, and how many more there are."""
    if len(mistakes) <= MAX_MISTAKES:
        return mistakes
    return [*mistakes[:MAX_MISTAKES], Mistake("#", f"{len(mistakes) - MAX_MISTAKES:,} more mistakes are not listed.")]


# --- fields -----------------------------------------------------------------------------------------------------------


def options_of(submission: Submission) -> Options:
    """How a job is to be taken in."""
    wish = submission.retry
    rule = RetryRule(wish.attempts, tuple(RETRIED[on] for on in wish.on), wish.delay_ms, wish.backoff) if wish else None
    return Options(
        run_at_ms=int(submission.run_at.timestamp() * 1000) if submission.run_at else 0,
        delay_ms=submission.delay_ms,
        expires_in_ms=submission.expires_in * 1000,
        supersede=submission.supersede,
        tags=tuple(dict.fromkeys(submission.tags)),
        metadata=submission.metadata,
        retry=rule,
        webhook=_named_endpoints(submission),
    )


def _named_endpoints(submission: Submission) -> tuple[str, ...] | None:
    """The receivers that a job names, each once; None if it says nothing about them."""
    names = submission.webhook
    if names is None:
        return None
    return () if names == [NONE] else tuple(dict.fromkeys(names))


_INNER: dict[str, type[Edge]] = {"retry": RetryWish}


def field_mistakes(error: ValidationError, data: type[Edge] = JobData) -> Iterator[Mistake]:
    """What the models say, in the words of the fields' rules; `data` is the model of the object called so."""
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        place, rules = _place([str(part) for part in found["loc"]], _INNER | {"data": data})
        name = place[-1]
        if found["type"] == "extra_forbidden":
            detail = f"There is no such field here; known are {', '.join(rules)}."
        elif found["type"] in ("missing", "too_short"):
            detail = f"{name} is {'missing' if found['type'] == 'missing' else 'empty'}: it must be {rules[name]}."
        else:
            detail = f"{name} must be {rules[name]}."
        yield Mistake(pointer_to(*place), detail)


def _place(parts: list[str], inner: dict[str, type[Edge]]) -> tuple[list[str], dict[str, str]]:
    """The path to the field that a mistake is in (not deeper), and the rules of the object that holds it."""
    model: type[Edge] = Submission
    for depth, part in enumerate(parts, 1):
        if depth == len(parts) or part not in inner:
            break
        model = inner[part]
    return parts[:depth], {str(field.alias): str(field.description) for field in model.model_fields.values()}


def option_mistakes(submission: Submission, bounds: Bounds) -> Iterator[Mistake]:
    """What one field alone cannot tell: what the service knows and allows, sizes, what needs another field."""
    if submission.keep_sandbox and not bounds.keeps_sandboxes:
        yield Mistake("#/keepSandbox", "keepSandbox must be false: this service keeps none (KEPT_SANDBOXES).")
    unknown = [name for name in _named_endpoints(submission) or () if name not in bounds.endpoints]
    if unknown:
        known = ", ".join(bounds.endpoints) or "none"
        yield Mistake("#/webhook", f"webhook must be {Submission.model_fields['webhook'].description}; known: {known}.")
    if submission.retry:
        unknown = [name for name in submission.retry.on if name not in RETRIED]
        if unknown:
            yield Mistake("#/retry/on", f"on must be {RetryWish.model_fields['on'].description}.")
    if submission.metadata and len(json.dumps(submission.metadata)) > MAX_METADATA_BYTES:
        yield Mistake("#/metadata", f"metadata must be {Submission.model_fields['metadata'].description}.")
    if submission.supersede and not submission.data.chat_id:
        yield Mistake("#/supersede", "supersede needs a chatId: it cancels the older jobs of the same chat.")


def pointer_to(*keys: str) -> str:
    """A JSON pointer in its URI form (RFC 6901 §6): plain ASCII whatever the keys hold."""
    return "/".join(["#", *map(token, keys)])


# --- dependencies -----------------------------------------------------------------------------------------------------


def sections(dependencies: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section, pointer, packages) of both forms. Text under a section's name is a version: the map is flat."""
    here = "#/data/dependencies"
    if any(not isinstance(dependencies.get(section, ""), str) for section in SECTIONS):
        for section, packages in dependencies.items():
            yield section, f"{here}/{token(section)}", packages
    else:
        yield SECTIONS[0], here, dependencies


def dependency_mistakes(dependencies: dict[str, Any]) -> Iterator[Mistake]:
    """Names and versions of packages, in both forms."""
    if not dependencies:
        return
    if len(dependencies) > MAX_PACKAGES:
        yield _too_many_packages("#/data/dependencies", dependencies)
        return
    for section, pointer, packages in sections(dependencies):
        if section not in SECTIONS:
            yield Mistake(pointer, f"Beside {SECTIONS[0]}, only {SECTIONS[1]} and {SECTIONS[2]} are known here.")
        elif not isinstance(packages, dict):
            yield Mistake(pointer, f"{section} must be a map of package names to versions.")
        elif len(packages) > MAX_PACKAGES:
            yield _too_many_packages(pointer, packages)
        else:
            yield from _package_mistakes(pointer, packages)


def _too_many_packages(pointer: str, packages: dict[str, Any]) -> Mistake:
    return Mistake(pointer, f"There are {len(packages):,} packages here; at most {MAX_PACKAGES:,} are accepted.")


def _package_mistakes(pointer: str, packages: dict[str, Any]) -> Iterator[Mistake]:
    for name, version in packages.items():
        if fault := package_fault(name):
            yield Mistake(f"{pointer}/{token(name)}", f"The name {fault}.")
        if not isinstance(version, str):
            yield Mistake(f"{pointer}/{token(name)}", "The version of a package must be a string.")
        elif fault := version_fault(version):
            yield Mistake(f"{pointer}/{token(name)}", f"The version {fault}.")


# --- environment ------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def env_mistakes(env: dict[str, Any]) -> Iterator[Mistake]:
    """Names and values of variables, each and together."""
    here = "#/data/env"
    if not env:
        return
    if len(env) > MAX_VARIABLES:
        yield Mistake(here, f"env has {len(env):,} variables; at most {MAX_VARIABLES} are accepted.")
        return
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            yield Mistake(f"{here}/{token(name)}", "A variable's name has at most 255 letters, digits and underscores.")
        if not isinstance(value, str) or "\0" in value:
            yield Mistake(f"{here}/{token(name)}", "The value of a variable must be a string without NUL.")
    total = sum(utf8_length(name) + utf8_length(value) for name, value in env.items() if isinstance(value, str))
    if total > MAX_ENV_BYTES:
        yield Mistake(
            here, f"The variables of env hold {total:,} bytes in all; at most {MAX_ENV_BYTES:,} are accepted."
        )
