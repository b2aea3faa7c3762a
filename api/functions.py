"""Named functions over HTTP: keep versions, call the current one, roll back, list and remove."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bottle import request, response

import function_intake
from api import wire
from api.answers import idempotency_key, json_answer, whole_number
from api.guard import caller
from api.watch import Crowded, Watch
from artifacts import Shelf
from calls import is_name, shown_name
from errors import ChefError, FunctionNotFound, FunctionNotReady, InvalidRequest, JobNotFound, Mistake
from intake import Bounds, read_json
from jobs import Job, Quota, Request, Status, iso, new_id
from store import Function, Store, Submitted, Version
from submission import Options

MAX_WAIT_S = 60
#: An event of a megabyte, every character of it escaped.
MAX_BODY_BYTES = 8 << 20
ROLL_BACK_BYTES = 4 << 10

Submit = Callable[[Request, Options], Submitted]


class Functions:
    """One method for each route."""

    def __init__(
        self,
        store: Store,
        shelf: Shelf,
        watch: Watch,
        submit: Submit,
        bounds: Bounds,
        body_bytes: int,
        quota: Quota,
    ) -> None:
        """`shelf` keeps the trees of versions. `body_bytes` bounds a body with code."""
        self._store = store
        self._shelf = shelf
        self._watch = watch
        self._submit = submit
        self._bounds = bounds
        self._body_bytes = body_bytes
        self._quota = quota

    def put(self, name: str) -> bytes:
        """Keep a new version: 202 with the job that makes it; with ?wait=, the version as it is then."""
        name, seconds = _checked(name), _wait_seconds()
        wire.require_json(request.environ)
        wanted = function_intake.version(wire.read_body(request.environ, self._body_bytes), self._bounds, name)
        job_id, kept = new_id(), replace(wanted, files={}, binary={})
        number, unused = self._store.put_version(name, kept, job_id, self._quota)
        self._discard(unused)
        self._make(wanted, number, job_id)
        self._end_of(job_id, seconds)
        made = next((each for each in self._store.function(name).versions if each.number == number), None)
        if made is None:
            raise FunctionNotFound(f"Version {number} of {name} was removed meanwhile.")
        shown = self._version(made)
        response.set_header("Location", f"/api/functions/{shown_name(name)}")
        return json_answer({"name": shown_name(name), **shown}, 202 if shown["state"] == "making" else 201)

    def invoke(self, name: str) -> bytes:
        """Call the current version: 202 with the job; with ?wait=, its record if it has ended by then (200)."""
        seconds = _wait_seconds()
        current = self._current(_checked(name))
        body = wire.read_body(request.environ, MAX_BODY_BYTES)
        if body:
            wire.require_json(request.environ)
        call = current.request.call
        assert call  # noqa: S101  (a version is a call)
        call = replace(call, version=current.number, package=current.package)
        asked, options = function_intake.call_of(current.request, call, body, self._bounds)
        job = self._submit(asked, _identified(options, name, body)).job
        response.set_header("Location", f"/api/jobs/{job.id}")
        ended = self._end_of(job.id, seconds)
        return json_answer(ended.to_json()) if ended else json_answer(_accepted(job, name, current.number), 202)

    def listed(self) -> bytes:
        """The caller's functions, each with the version that is called."""
        own = [each for each in self._store.functions() if each.name == _prefix() + shown_name(each.name)]
        functions = [_head(each) | _current_of(each) for each in own]
        return json_answer({"functions": functions, "count": len(functions), "most": self._quota.functions})

    def one(self, name: str) -> bytes:
        """A function with its versions, the newest first."""
        found = self._store.function(_checked(name))
        return json_answer({**_head(found), "versions": [self._version(each) for each in found.versions]})

    def roll_back(self, name: str) -> bytes:
        """Call another version from now on: `{"version": 1}`."""
        wire.require_json(request.environ)
        body = read_json(wire.read_body(request.environ, ROLL_BACK_BYTES))
        number = body.get("version")
        if type(number) is not int or not 0 < number < 1 << 53 or len(body) > 1:
            raise InvalidRequest([Mistake("#/version", "version must be the number of a version, and stand alone.")])
        self._store.roll_back(_checked(name), number)
        return self.one(name)

    def remove(self, name: str) -> bytes:
        """Forget a function with all its versions; calls that wait find it gone. Files first, as with jobs."""
        name = _checked(name)
        found = self._store.function(name)
        self._discard(version.job_id for version in found.versions)
        self._discard(self._store.remove_function(name))
        response.status = 204
        return b""

    def _end_of(self, job_id: str, seconds: int) -> Job | None:
        """A job that has ended within so many seconds; None if it has not, at once if as many wait as may."""
        if not seconds:
            return None
        try:
            with self._watch.place(seconds):
                job = self._watch.end_of(job_id, seconds)
        except Crowded:
            return None
        return job if job.status.is_final else None

    def _make(self, wanted: Request, number: int, job_id: str) -> None:
        """Have a version made; one whose job is not taken in is none."""
        assert wanted.call  # noqa: S101  (see function_intake.version)
        try:
            self._submit(replace(wanted, call=replace(wanted.call, version=number)), Options(job_id=job_id, webhook=()))
        except ChefError:
            self._store.take_back_version(wanted.call.name, number)
            raise

    def _current(self, name: str) -> Version:
        """Raises FunctionNotFound, FunctionNotReady."""
        current = self._store.current_version(name)
        if current and current.is_strange:
            raise FunctionNotReady(f"Version {current.number} of {name} needs a newer release of this service.")
        if current:
            return current
        states = [self._version(each) for each in self._store.function(name).versions]
        newest = states[0] if states else {"version": 0, "state": "removed", "message": None}
        why = f": {newest['message']}" if newest.get("message") else ""
        raise FunctionNotReady(
            f"No version of {name} can be called; version {newest['version']} is {newest['state']}{why}"
        )

    def _version(self, version: Version) -> dict[str, Any]:
        """A version as answers show it. One that could not be made is told by its job."""
        call = version.request.call
        assert call  # noqa: S101  (a version is a call)
        shown = {
            "version": version.number,
            "state": "ready" if version.package else "making",
            "createdAt": iso(version.created_ms),
            "runtime": call.runtime,
            "handler": call.handler,
            "dependencies": version.request.dependencies.get("dependencies", {}),
            "bytes": version.package.size if version.package else None,
            "jobId": version.job_id,
        }
        return shown if version.package else shown | self._making(version)

    def _making(self, version: Version) -> dict[str, Any]:
        try:
            job = self._store.get(version.job_id)
        except JobNotFound:
            return {"state": "failed", "reason": None, "message": "its job was removed before it was made"}
        if job.status is not Status.FAILED:
            return {}
        return {"state": "failed", "reason": job.reason, "message": job.message}

    def _discard(self, job_ids: Iterable[str]) -> None:
        """Remove the trees that these jobs have made, or are about to make."""
        for job_id in job_ids:
            self._shelf.remove(job_id)


def _checked(name: str) -> str:
    """The caller's function of this name, as the store calls it: <tenant>/<name>. Every name goes through here."""
    if not is_name(name):
        raise FunctionNotFound("A function's name has 1 to 64 small letters, digits and inner hyphens.")
    return _prefix() + name


def _prefix() -> str:
    owner = caller().owner
    return f"{owner}/" if owner else ""


def _wait_seconds() -> int:
    seconds = whole_number("wait")
    if seconds > MAX_WAIT_S:
        raise InvalidRequest([Mistake("?wait", f"wait must be at most {MAX_WAIT_S} seconds.")])
    return seconds


def _identified(options: Options, name: str, body: bytes) -> Options:
    """Two equal calls are two calls, unless they come with the same key."""
    key = idempotency_key()
    digest = hashlib.sha256(name.encode() + b"\0" + body).hexdigest()
    return replace(options, idempotency_key=key, body_hash=digest) if key else options


def _accepted(job: Job, name: str, number: int) -> dict[str, Any]:
    created = iso(job.created_ms)
    return {"jobId": job.id, "type": job.type, "status": job.status, "createdAt": created} | {
        "function": {"name": shown_name(name), "version": number}
    }


def _head(function: Function) -> dict[str, Any]:
    return {
        "name": shown_name(function.name),
        "current": function.current or None,
        "createdAt": iso(function.created_ms),
        "updatedAt": iso(function.updated_ms),
    }


def _current_of(function: Function) -> dict[str, Any]:
    calls = [version.request.call for version in function.versions]
    return {"runtime": calls[0].runtime, "handler": calls[0].handler} if calls and calls[0] else {}
