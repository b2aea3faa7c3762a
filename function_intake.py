"""Reads the bodies about functions: a call with its code, a version to keep, a call of a version; every mistake named.

A body is brought into the form of a submission, so that options, limits and files have the rules of all jobs.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, ValidationError

import allowance
import calls
import form
from calls import MAX_EVENT_BYTES, MAX_HANDLER, RUNTIMES, Call
from errors import InvalidRequest, Mistake
from jobs import JobType, Request
from submission import Options
from tree import Tree, file_mistakes, token

Bounds = form.Bounds

MAX_PACKAGES = 200
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,100}[A-Za-z0-9])?(?:\[[A-Za-z0-9._,-]{1,100}\])?")
_RELEASE = r"v?[0-9][A-Za-z0-9.*+!_-]{0,60}"
_SPECIFIER = re.compile(rf"(?:(?:===?|~=|!=|<=|>=|<|>) ?)?{_RELEASE}(?:, ?(?:===?|~=|!=|<=|>=|<|>) ?{_RELEASE}){{0,9}}")


#: Any version of a Python package.
ANY = ("", "*")


class VersionData(form.Edge):
    """A function's code and how it is called."""

    runtime: Literal["node", "python"] = Field(description=f"one of {', '.join(RUNTIMES)}")
    files: dict[str, Any] = Field(min_length=1, description="a map of file paths to their text, with at least one file")
    handler: str = Field(max_length=MAX_HANDLER, description="a file and its export, such as index.handler")
    dependencies: dict[str, Any] = Field(default_factory=dict, description="a map of package names to versions")
    timeout_ms: int = Field(0, description="a whole number of milliseconds")
    env: dict[str, Any] = Field(default_factory=dict, description="a map of variable names to strings")
    install_scripts: bool = Field(default=False, description="true or false")


class CallData(form.Edge):
    """What a version is called with."""

    event: Any = Field(None, description=f"JSON of at most {MAX_EVENT_BYTES:,} bytes")
    chat_id: str = Field(
        "",
        max_length=form.MAX_CHAT_ID,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
        description=f"a string of at most {form.MAX_CHAT_ID} characters, without control characters",
    )


class FunctionData(VersionData, CallData):
    """A call with its code."""


class VersionSubmission(form.Submission):
    """The body of PUT /api/functions/:name, as a submission."""

    data: VersionData  # type: ignore[assignment]  # of another kind than a project's


class CallSubmission(form.Submission):
    """The body of POST /api/functions/:name/invoke, as a submission."""

    data: CallData  # type: ignore[assignment]  # as above


class FunctionSubmission(form.Submission):
    """The body of POST /api/jobs for a function."""

    data: FunctionData  # type: ignore[assignment]  # of another kind than a project's


def parse(document: Mapping[str, Any], bounds: Bounds, attached: bool = False) -> tuple[Request, Options]:
    """A call with its code, as POST /api/jobs takes it. Raises InvalidRequest, as all of these do."""
    if attached:
        raise InvalidRequest([Mistake("#/data/files", "A function has its code in files, not in a part of the body.")])
    submission = _checked(FunctionSubmission, FunctionData, document, bounds)
    data: FunctionData = submission.data
    request = _request(submission, data)
    call = _call(data).with_event(data.event)
    return replace(request, call=call, chat_id=data.chat_id), form.options_of(submission)


def version(body: bytes, bounds: Bounds, name: str) -> Request:
    """A version to keep under `name`; its number is still to come."""
    with _unwrapped():
        submission = _checked(VersionSubmission, VersionData, _wrapped(form.read_json(body), {"limits"}), bounds)
    data: VersionData = submission.data
    return replace(_request(submission, data), call=replace(_call(data), name=name))


def call_of(kept: Request, call: Call, body: bytes, bounds: Bounds) -> tuple[Request, Options]:
    """A call of a version, with the files, variables and limits of its `kept` request; without a body, an event less.

    `call` is the version's own, with its package.
    """
    document = _wrapped(form.read_json(body) if body else {}, _OUTSIDE)
    with _unwrapped():
        submission = _checked(CallSubmission, CallData, document, bounds)
    data: CallData = submission.data
    asked = replace(
        kept,
        priority=submission.priority,
        chat_id=data.chat_id,
        call=call.with_event(data.event),
        limits={**kept.limits, **allowance.granted(submission.limits)},
    )
    return asked, form.options_of(submission)


#: What a call may say beside its event, as a submission may.
_OUTSIDE = {"priority", "runAt", "delayMs", "expiresIn", "tags", "metadata", "retry", "limits", "webhook"}


def _wrapped(body: dict[str, Any], outside: set[str]) -> dict[str, Any]:
    """A body as a submission: what is not `outside` belongs to its data."""
    options = {name: value for name, value in body.items() if name in outside}
    data = {name: value for name, value in body.items() if name not in outside}
    return {**options, "type": JobType.FUNCTION.value, "data": data}


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Mistakes point into the body as it was sent."""
    try:
        yield
    except InvalidRequest as error:
        mistakes = [replace(each, pointer=each.pointer.replace("#/data", "#", 1)) for each in error.mistakes]
    else:
        return
    raise InvalidRequest(mistakes)


def _checked(model: type[Any], part: type[form.Edge], document: Mapping[str, Any], bounds: Bounds) -> Any:
    """The submission in a document, once nothing is wrong with it."""
    mistakes: list[Mistake] = []
    try:
        submission = model.model_validate(document)
    except ValidationError as error:
        mistakes += form.field_mistakes(error, part)
    else:
        mistakes += form.option_mistakes(submission, bounds)
        mistakes += allowance.mistakes(submission.limits, bounds.limits or {})
    if isinstance(data := document.get("data"), dict):
        mistakes += _data_mistakes(data, bounds)
    if mistakes:
        raise InvalidRequest(form.listed(mistakes))
    return submission


def _data_mistakes(data: dict[str, Any], bounds: Bounds) -> Iterator[Mistake]:
    files, runtime = form.map_of(data, "files"), data.get("runtime")
    yield from file_mistakes("#/data/files", files, bounds.room)
    yield from form.env_mistakes(form.map_of(data, "env"))
    yield from _event_mistakes(data.get("event"))
    yield from _time_mistakes(data.get("timeoutMs"), bounds)
    packages = form.map_of(data, "dependencies")
    yield from form.dependency_mistakes(packages) if runtime != "python" else _package_mistakes(packages)
    yield from _handler_mistakes(data.get("handler"), runtime, files)


def _handler_mistakes(handler: object, runtime: object, files: dict[str, Any]) -> Iterator[Mistake]:
    """Where the model has nothing to report, a file must be there."""
    if not (isinstance(handler, str) and isinstance(runtime, str) and runtime in RUNTIMES and files):
        return
    if len(handler) <= MAX_HANDLER:
        try:
            calls.found(handler, runtime, files)
        except ValueError as error:
            yield Mistake("#/data/handler", str(error))


def _event_mistakes(event: object) -> Iterator[Mistake]:
    size = len(json.dumps(event, ensure_ascii=False).encode(errors="replace"))
    if size > MAX_EVENT_BYTES:
        yield Mistake("#/data/event", f"event has {size:,} bytes as JSON; at most {MAX_EVENT_BYTES:,} are accepted.")


def _time_mistakes(timeout_ms: object, bounds: Bounds) -> Iterator[Mistake]:
    """One of another type is the model's to report."""
    if type(timeout_ms) is int:
        for mistake in allowance.mistakes({"commandTimeoutMs": timeout_ms}, bounds.limits or {}):
            yield Mistake("#/data/timeoutMs", mistake.detail.replace("commandTimeoutMs", "timeoutMs"))


def _package_mistakes(packages: dict[str, Any]) -> Iterator[Mistake]:
    """In the grammar of Python's package index."""
    here = "#/data/dependencies"
    if len(packages) > MAX_PACKAGES:
        yield Mistake(here, f"There are {len(packages):,} packages here; at most {MAX_PACKAGES} are accepted.")
        return
    for name, specifier in packages.items():
        pointer = f"{here}/{token(name)}"
        if not _PACKAGE.fullmatch(name):
            yield Mistake(pointer, "The name is not a package name in the grammar of Python's index.")
        if not isinstance(specifier, str) or (specifier not in ANY and not _SPECIFIER.fullmatch(specifier)):
            yield Mistake(pointer, "The version must be a string such as 2.32.3, >=2,<3 or *; addresses are not taken.")


def _request(submission: Any, data: VersionData) -> Request:
    """All but the call."""
    times = {"command_s": data.timeout_ms / 1000} if data.timeout_ms else {}
    tree = Tree.from_json(data.files)
    return Request(
        type=JobType.FUNCTION,
        files=tree.files,
        binary=tree.binary,
        priority=submission.priority,
        dependencies=_dependencies(data),
        env=data.env,
        install_scripts=data.install_scripts,
        limits={**allowance.granted(submission.limits), **times},
        keep_sandbox=submission.keep_sandbox,
    )


def _call(data: VersionData) -> Call:
    file, export = calls.found(data.handler, data.runtime, data.files)
    return Call(data.runtime, file, export)


def _dependencies(data: VersionData) -> dict[str, dict[str, str]]:
    if data.runtime == "node":
        return {name: packages for name, _, packages in form.sections(data.dependencies) if packages}
    exact = {name: _specifier(wanted) for name, wanted in data.dependencies.items()}
    return {"dependencies": exact} if exact else {}


def _specifier(wanted: str) -> str:
    """As pip takes it: a bare version is that very one."""
    if wanted in ANY:
        return ""
    return f"=={wanted}" if wanted[0] in "v0123456789" else wanted.replace(" ", "")
