"""A client of Chef Workers in one file, for Python 3.11 and newer; it needs nothing but the standard library.

from chef_workers import ChefWorkers

workers = ChefWorkers("http://127.0.0.1:3001", key="cw_…")
job = workers.submit("build", {"package.json": "…", "index.html": "…"}, chatId="chat-1")
for event in workers.events(job["jobId"]):
print(event.kind, event.data)
print(workers.get(job["jobId"])["conclusion"])
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

JobType = Literal["build", "test", "lint", "analyze"]
#: How long one answer may take beside the wait that was asked for (s); a stream says something every 15 s.
TIMEOUT_S = 30.0
WAIT_S = 30
#: Answers after which the same request may be sent again.
AGAIN = frozenset({429, 502, 503, 504})


class Job(TypedDict, total=False):
    """A job's record; docs/api.md of the service has all fields."""

    jobId: str
    type: JobType
    status: Literal["pending", "active", "completed", "failed"]
    conclusion: Literal["success", "failure", "timeout", "cancelled", "error", "expired"] | None
    reason: str | None
    message: str | None
    progress: int
    phase: str | None
    attempt: int
    chatId: str | None
    createdAt: str
    startedAt: str | None
    finishedAt: str | None
    durationMs: int | None
    tags: list[str]
    metadata: dict[str, Any]
    result: dict[str, Any] | None
    artifacts: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    logs: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """What happened to a job: `kind` is state, progress, log or gap. `id` is where a stream can be resumed."""

    id: str
    kind: str
    data: dict[str, Any]


class Refused(Exception):
    """The service says no; `problem` is its whole answer, `code` the stable name of what is wrong."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """Keep both."""
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))
        super().__init__(f"{status} {problem.get('detail', '')}")


class ChefWorkers:
    """One service. Safe to share between threads.

    Requests are sent again while the service is away or busy, up to `tries` times in all: reads by their nature,
    submissions because each carries an Idempotency-Key.
    """

    def __init__(self, url: str, key: str = "", *, tries: int = 5) -> None:
        """`url` is the service's address without a path, `key` an API key if it wants one."""
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._tries = tries

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        kind: JobType,
        files: Mapping[str, str],
        *,
        key: str = "",
        options: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> Job:
        """Hand a project in. `data` are more fields of the body's `data` (chatId, dependencies, command, env …),
        `options` those beside it (priority, tags, runAt, retry …). The same `key` again means the same job.
        """
        job: Job = self._post("/jobs", submission(kind, files, options, **data), key or secrets.token_hex(16))
        return job

    def submit_many(self, submissions: Sequence[dict[str, Any]], *, key: str = "") -> list[dict[str, Any]]:
        """Hand in up to 100 of what submission() makes; for each {"httpStatus", and "job" or "problem"}, in order."""
        answer = self._post("/jobs/batch", {"jobs": list(submissions)}, key or secrets.token_hex(16))
        return list(answer["results"])

    def get(self, job_id: str, *, wait_s: int = 0, log: bool = False) -> Job:
        """The record; after up to `wait_s` seconds if the job does not end before. `log`: with the end of its log."""
        wanted = {"wait": wait_s or None, "include": "logs" if log else None}
        job: Job = self._json(f"/jobs/{job_id}", wanted, timeout_s=TIMEOUT_S + wait_s)
        return job

    def wait(self, job_id: str, timeout_s: float = 3_600) -> Job:
        """The record once the job has ended. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            job = self.get(job_id, wait_s=max(1, min(WAIT_S, int(left))))
            if job["status"] in ("completed", "failed"):
                return job
        raise TimeoutError(f"{job_id} has not ended within {timeout_s} s")

    def jobs(self, **filters: str | int | Sequence[str]) -> Iterator[Job]:
        """All jobs that pass the filters (status, type, chatId, tag, q, fields …), newest first."""
        cursor: str | None = ""
        while cursor is not None:
            page = self._json("/jobs", {**filters, "cursor": cursor or None})
            yield from page["jobs"]
            cursor = page["next"]

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """End a waiting job, ask a running one to stop."""
        job: Job = self._post(f"/jobs/{job_id}/cancel", {"reason": reason})
        return job

    def rerun(self, job_id: str) -> Job:
        """A new job with the same request."""
        job: Job = json.loads(self._read("POST", f"/jobs/{job_id}/rerun", tries=1))
        return job

    def remove(self, job_id: str) -> None:
        """Forget a finished job and its files."""
        self._read("DELETE", f"/jobs/{job_id}")

    # --- what happens -------------------------------------------------------------------------------------------------

    def events(self, job_id: str = "", *, after: str = "", kinds: str = "state,progress,log") -> Iterator[Event]:
        """What happens to a job, from its beginning or after the event `after`, to its end; without a job, to all of
        them from now on. A connection that breaks is taken up where it broke.
        """
        path = f"/jobs/{job_id}/events" if job_id else "/events"
        failures = 0
        while True:
            try:
                with self._open(
                    "GET", path, {"events": kinds}, headers={"Last-Event-ID": after} if after else {}
                ) as answer:
                    if answer.status == 204:
                        return
                    for event in _parsed(answer):
                        yield event
                        after, failures = event.id or after, 0
                        if job_id and event.data.get("status") in ("completed", "failed"):
                            return
            except (OSError, http.client.HTTPException):  # cut, or silent for longer than the pings
                failures += 1
                if failures >= self._tries:
                    raise
            time.sleep(min(10.0, 0.5 * 2**failures))

    # --- output -------------------------------------------------------------------------------------------------------

    def log(self, job_id: str, **part: str | int) -> str:
        """The log as text, or a part of it: from, to, tail, phase, stream."""
        return self._read("GET", f"/jobs/{job_id}/logs", part).decode()

    def artifacts(self, job_id: str) -> list[dict[str, Any]]:
        """The files that the job made: path, size, sha256."""
        return list(self._json(f"/jobs/{job_id}/artifacts")["artifacts"])

    def artifact(self, job_id: str, path: str) -> bytes:
        """One of them."""
        return self._read("GET", f"/jobs/{job_id}/artifacts/{urllib.parse.quote(path)}")

    def save_artifacts(self, job_id: str, target: Path) -> None:
        """All of them, as a .tar.gz file."""
        with self._open("GET", f"/jobs/{job_id}/artifacts.tar.gz") as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: Any, key: str = "") -> Any:
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        return json.loads(self._read("POST", path, data=json.dumps(body).encode(), headers=headers))

    def _json(self, path: str, query: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        return json.loads(self._read("GET", path, query, timeout_s=timeout_s))

    def _read(self, method: str, path: str, query: Mapping[str, Any] | None = None, **more: Any) -> bytes:
        with self._open(method, path, query, **more) as answer:
            body: bytes = answer.read()
        return body

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        tries: int = 0,
    ) -> Any:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        address = f"{self._url}/api{path}" + ("?" + urllib.parse.urlencode(given, doseq=True) if given else "")
        request = urllib.request.Request(address, data, {**self._headers, **(headers or {})}, method=method)
        left = tries or self._tries
        while True:
            left -= 1
            try:
                return urllib.request.urlopen(request, timeout=timeout_s)
            except urllib.error.HTTPError as error:
                refused = Refused(error.code, _problem(error))
                if error.code not in AGAIN or not left:
                    raise refused from None
                time.sleep(min(30.0, float(error.headers.get("Retry-After", 1))))
            except OSError:
                if not left:
                    raise
                time.sleep(0.5)


def submission(
    kind: JobType, files: Mapping[str, str], options: Mapping[str, Any] | None = None, **data: Any
) -> dict[str, Any]:
    """The body of one submission; see ChefWorkers.submit."""
    return {"type": kind, "data": {"projectFiles": dict(files), **data}, **(options or {})}


def _problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        problem: dict[str, Any] = json.loads(error.read())
    except ValueError:
        return {"detail": error.reason}
    return problem


def _parsed(lines: Any) -> Iterator[Event]:
    """Server-sent events, as this service writes them: one line for each field."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
