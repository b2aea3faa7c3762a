"""The HTTP API: parse, call, answer. What a request means is decided in intake.py and store; no business logic here."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from bottle import Bottle, HTTPError, request, response

import intake
import logview
import wire
from artifacts import Shelf
from config import Settings
from errors import ArtifactNotFound, ChefError, InvalidRequest, JobNotFound, Mistake, QueueFull, StoreUnavailable
from jobs import Artifact, Job, OutputChunk, Request, is_id, iso
from store import Store

log = logging.getLogger(__name__)

VERSION = "0.1.0"
#: The longest wait for one read or write on a connection (s). A body that stalls this long is answered 408.
IO_SECONDS = 10.0
#: How long Redis may take for one answer (s): a caller hears of its absence within a second, and asks again.
STORE_SECONDS = 0.8
RETRY_SOON_S = 2

#: Every code that an answer can carry: its HTTP number and what it means in a few words.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request is not valid"),
    "body_broken": (400, "The body cannot be read"),
    "not_found": (404, "There is nothing at this address"),
    "job_not_found": (404, "There is no such job"),
    "artifact_not_found": (404, "There is no such artifact"),
    "method_not_allowed": (405, "This address does not take this method"),
    "body_incomplete": (408, "The body did not arrive"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body is not JSON"),
    "range_unsatisfiable": (416, "The range lies outside the file"),
    "queue_full": (429, "The queue is full"),
    "internal_error": (500, "Something went wrong here"),
    "storage_failed": (500, "The disk that keeps artifacts fails"),
    "store_unavailable": (503, "The job store does not answer"),
    "store_unsuitable": (503, "The job store cannot keep jobs"),
}
#: Problems on our side: their details go to the log, the caller gets a sentence that gives nothing away.
_OURS = {
    "internal_error": "The request failed inside the service. Its log has the details under this request id.",
    "storage_failed": "An artifact cannot be read from the service's disk. Its log has the details.",
    "store_unavailable": "Redis does not answer. Nothing is known about the effect of this request; try again soon.",
    "store_unsuitable": "Redis answers, but does not keep what it is given. The service's log says what to change.",
}


_compact = json.JSONEncoder(separators=(",", ":")).encode


def wsgi() -> Bottle:
    """The service as gunicorn loads it: settings from the environment, jobs enqueued through Huey."""
    import tasks  # noqa: PLC0415  (reads the environment; importing this module needs none)

    store = tasks.open_store(timeout_s=STORE_SECONDS, retries=0)
    tasks.huey.store = store  # a caller waits: submissions are as impatient as reads
    return create_app(tasks.settings, store, tasks.shelf, tasks.submit)


def create_app(
    settings: Settings, store: Store, shelf: Shelf, submit: Callable[[Request], Job], io_seconds: float = IO_SECONDS
) -> Bottle:
    """The API over its parts. `submit` stores a job and returns its record."""
    api = Api(settings, store, shelf, submit)
    app = Bottle()
    app.uninstall(True)  # its plugins turn dicts into answers; ours are bytes already
    for method, path, handler in (
        ("GET", "/", api.about),
        ("GET", "/api/health", api.health),
        ("GET", "/api/stats", api.stats),
        ("POST", "/api/jobs", api.create_job),
        ("GET", "/api/jobs/<job_id>", api.job),
        ("GET", "/api/jobs/<job_id>/logs", api.logs),
        ("GET", "/api/jobs/<job_id>/artifacts", api.artifacts),
        ("GET", "/api/jobs/<job_id>/artifacts.tar.gz", api.archive),
        ("GET", r"/api/jobs/<job_id>/artifacts/<path:re:[\s\S]+>", api.artifact),
    ):
        app.route(path, method, _answering(handler))
    app.default_error_handler = _unrouted
    app.add_hook("before_request", functools.partial(_begin, io_seconds))
    app.add_hook("after_request", _end)
    return app


class Api:
    """One method for each route, in the order of the table above."""

    def __init__(self, settings: Settings, store: Store, shelf: Shelf, submit: Callable[[Request], Job]) -> None:
        """Keep the parts; nothing is opened."""
        self._bounds = intake.Bounds(settings.max_files, settings.max_project_bytes)
        self._body_bytes = settings.body_bytes
        self._store = store
        self._shelf = shelf
        self._submit = submit

    def about(self) -> bytes:
        """What answers here."""
        return _json({"service": "Chef Workers", "version": VERSION, "status": "running", "timestamp": _now()})

    def health(self) -> bytes:
        """Whether jobs can be taken and read: 200 healthy, 503 unhealthy."""
        try:
            self._store.ping()
        except StoreUnavailable as error:
            log.warning("unhealthy: %s", error)
            response.set_header("Retry-After", str(RETRY_SOON_S))
            sentence = "Redis does not answer."
            body = {"status": "unhealthy", "redis": "unreachable", "error": sentence, "message": sentence}
            return _json({**body, "version": VERSION, "timestamp": _now()}, 503)
        return _json({"status": "healthy", "redis": "connected", "version": VERSION, "timestamp": _now()})

    def stats(self) -> bytes:
        """How many jobs are in each state, per queue."""
        return _json({"timestamp": _now(), "queues": self._store.stats()})

    def create_job(self) -> bytes:
        """Take a submission; when this answers 201, the job is stored."""
        wire.require_json(request.environ)
        body = wire.read_body(request.environ, self._body_bytes)
        job = self._submit(intake.parse(body, self._bounds))
        response.set_header("Location", f"/api/jobs/{job.id}")
        created = {"jobId": job.id, "type": job.type, "status": job.status, "createdAt": iso(job.created_ms)}
        return _json(created, 201)

    def job(self, job_id: str) -> bytes:
        """The record of a job."""
        return _json(self._job(job_id).to_json())

    def logs(self, job_id: str) -> Iterable[bytes]:
        """The log from line `offset` on, as far as it goes now; X-Next-Offset is where to go on."""
        offset = _whole_number("offset")
        show, media_type = _log_format()
        job = self._job(job_id)
        pages = self._log_pages(job, offset)
        first = next(pages, [])  # before the answer begins, so that a store that is away makes a 503
        response.content_type = media_type
        response.set_header("X-Next-Offset", str(max(offset, job.log_lines)))
        response.set_header("X-Log-Complete", "true" if job.status.is_final else "false")
        return show(itertools.chain(first, itertools.chain.from_iterable(pages)), offset)

    def artifacts(self, job_id: str) -> bytes:
        """What the job produced, with where to get it."""
        job = self._job(job_id)
        base = f"/api/jobs/{job.id}/artifacts/"
        listed = [{**artifact, "href": base + quote(artifact["path"])} for artifact in job.artifacts]
        total = sum(artifact["size"] for artifact in job.artifacts)
        return _json({"jobId": job.id, "artifacts": listed, "totalBytes": total})

    def archive(self, job_id: str) -> Iterable[bytes]:
        """All artifacts as one compressed tar file, made while it is sent."""
        job = self._job(job_id)
        kept = [Artifact(**artifact) for artifact in job.artifacts]
        blocks = self._shelf.tar_gz(job.id, job.fence, kept)
        response.content_type = "application/gzip"
        response.set_header("Content-Disposition", wire.attachment(f"{job.id}.tar.gz"))
        return blocks

    def artifact(self, job_id: str, path: str) -> bytes | wire.FilePart:
        """One file, or the range of it that is asked for; 304 if the caller has it."""
        job = self._job(job_id)
        found = next((artifact for artifact in job.artifacts if artifact["path"] == path), None)
        if found is None:
            raise ArtifactNotFound(f"Job {job.id} has no artifact of this path.")
        etag = f'"{found["sha256"]}"'
        response.set_header("ETag", etag)
        response.set_header("Cache-Control", "private, no-cache")
        if wire.is_unchanged(request.get_header("If-None-Match", ""), etag):
            response.status = 304
            return b""
        return _file(self._shelf.open_file(job.id, job.fence, found["sha256"]), found, etag)

    def _job(self, job_id: str) -> Job:
        """The record, without asking Redis about what cannot be an id."""
        if not is_id(job_id):
            raise JobNotFound("A job id is job- and 32 hexadecimal digits.")
        return self._store.get(job_id)

    def _log_pages(self, job: Job, offset: int) -> Iterator[list[OutputChunk]]:
        """The log from `offset` to where it ended when `job` was read: later lines belong to the next request."""
        while offset < job.log_lines:
            page = [chunk for chunk in self._store.log(job.id, offset) if chunk.end_line <= job.log_lines]
            if not page:
                return
            yield page
            offset = page[-1].end_line


def _file(stream: BinaryIO, found: dict[str, Any], etag: str) -> bytes | wire.FilePart:
    size = found["size"]
    try:
        part = wire.wanted_range(request.environ, size, etag)
    except wire.RangeUnsatisfiable:
        stream.close()
        raise
    response.content_type = wire.content_type(found["path"])
    response.set_header("Content-Disposition", wire.attachment(found["path"]))
    response.set_header("Accept-Ranges", "bytes")
    if part:
        response.status = 206
        response.set_header("Content-Range", f"bytes {part.start}-{part.end - 1}/{size}")
    sent = part or wire.Range(0, size)
    response.content_length = sent.end - sent.start
    if sent.start == sent.end:  # Bottle closes no body that yields nothing
        stream.close()
        return b""
    return wire.FilePart(stream, sent)


def _log_format() -> tuple[Callable[[Iterable[OutputChunk], int], Iterator[bytes]], str]:
    named = request.query.get("format")
    if named not in (None, "text", "ndjson"):
        raise InvalidRequest([Mistake("?format", "format must be text or ndjson.")])
    if named == "ndjson" or (not named and "application/x-ndjson" in request.get_header("Accept", "")):
        return logview.as_ndjson, "application/x-ndjson"
    return logview.as_text, "text/plain; charset=utf-8"


def _whole_number(name: str) -> int:
    given = request.query.get(name, "0")
    if not (given.isascii() and given.isdecimal() and len(given) <= 12):
        raise InvalidRequest([Mistake(f"?{name}", f"{name} must be a whole number from 0 on, of at most 12 digits.")])
    return int(given)


def _json(body: dict[str, Any], status: int = 200) -> bytes:
    response.status = status
    response.content_type = "application/json"
    return _compact(body).encode()


def _now() -> str | None:
    return iso(time.time_ns() // 1_000_000)


# --- problems ---------------------------------------------------------------------------------------------------------


def _answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`handler`, with whatever it raises made an answer."""

    @functools.wraps(handler)
    def answer(**places: str) -> Any:
        try:
            return handler(**places)
        except ChefError as error:
            return _problem_of(error)
        except Exception:
            log.exception("request %s failed", request.environ["chef.request_id"])
            return _problem("internal_error")

    return answer


def _problem_of(error: ChefError) -> bytes:
    code = error.code if error.code in PROBLEMS else "internal_error"
    if code in _OURS:
        log.error("request %s: %s: %s", request.environ["chef.request_id"], type(error).__name__, error)
    if code in ("store_unavailable", "store_unsuitable"):
        response.set_header("Retry-After", str(RETRY_SOON_S))
    if isinstance(error, QueueFull):
        response.set_header("Retry-After", str(error.retry_after_s))
    if isinstance(error, wire.RangeUnsatisfiable):
        response.set_header("Content-Range", f"bytes */{error.size}")
    mistakes = error.mistakes if isinstance(error, InvalidRequest) else []
    return _problem(code, str(error), mistakes)


def _problem(code: str, detail: str = "", mistakes: Iterable[Mistake] = ()) -> bytes:
    """An RFC 9457 document. `error` and `message` repeat the detail for clients that look there."""
    status, title = PROBLEMS[code]
    detail = _OURS.get(code) or detail or f"{title}."
    problem: dict[str, Any] = {
        "type": f"urn:chef-workers:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(request.path[:500]),
        "error": detail,
        "message": detail,
        "code": code,
        "requestId": request.environ["chef.request_id"],
    }
    if listed := [{"pointer": mistake.pointer, "detail": mistake.detail} for mistake in mistakes]:
        problem["errors"] = listed
    body = _json(problem, status)
    response.content_type = "application/problem+json"
    return body


def _unrouted(error: HTTPError) -> bytes:
    """The answer where no handler was reached (404, 405 with its Allow), or an answer's body could not begin (500)."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "internal_error")
    if code == "internal_error":
        log.error("request %s failed", request.environ["chef.request_id"], exc_info=error.exception)
        _add_headers()
    return _problem(code)


# --- every request ----------------------------------------------------------------------------------------------------


def _begin(io_seconds: float) -> None:
    request.environ["chef.began"] = time.perf_counter()
    request.environ["chef.request_id"] = wire.request_id(request.environ)
    wire.bound_waits(request.environ, io_seconds)


def _end() -> None:
    wire.forget_unread_body(request.environ)
    _add_headers()
    # JSON because it escapes: no path can begin a line of its own in the log.
    event = {
        "method": request.method,
        "path": request.environ["bottle.raw_path"][:500],
        "status": response.status_code,
        "ms": round((time.perf_counter() - request.environ["chef.began"]) * 1000, 2),
        "request": request.environ["chef.request_id"],
    }
    log.info("request %s", json.dumps(event))


def _add_headers() -> None:
    for name, value in wire.SECURITY_HEADERS:
        if name not in response:
            response.set_header(name, value)
    response.set_header("X-Request-Id", request.environ["chef.request_id"])
