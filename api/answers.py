"""How answers are made: JSON, and problems in one form for every error there is (RFC 9457)."""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO
from urllib.parse import quote

from bottle import request, response

import rates
from api import outflow, wire
from errors import ChefError, InvalidRequest, Mistake, QueueFull, QuotaExceeded, RateLimited, Unauthorized
from jobs import Job, iso

log = logging.getLogger(__name__)

RETRY_SOON_S = 2
MAX_KEY = 255

#: Every code that an answer can carry: its HTTP number and what it means in a few words.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request is not valid"),
    "host_missing": (400, "The request has no Host"),
    "body_broken": (400, "The body cannot be read"),
    "source_not_allowed": (403, "The job's files may not come from there"),
    "source_not_found": (404, "The source of the job's files is not there"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "The API key is not good for this"),
    "origin_refused": (403, "Pages of this origin may not use the service"),
    "not_found": (404, "There is nothing at this address"),
    "job_not_found": (404, "There is no such job"),
    "artifact_not_found": (404, "There is no such artifact"),
    "function_not_found": (404, "There is no such function"),
    "preview_not_found": (404, "There is no such preview"),
    "method_not_allowed": (405, "This address does not take this method"),
    "idempotency_conflict": (409, "The idempotency key was used with another body"),
    "source_not_ready": (409, "The source of the job's files has not ended"),
    "move_refused": (409, "The job's status does not allow this"),
    "function_not_ready": (409, "The function cannot be called"),
    "function_quota": (409, "There are too many functions"),
    "body_incomplete": (408, "The body did not arrive"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body is not JSON"),
    "range_unsatisfiable": (416, "The range lies outside the file"),
    "uploads_full": (429, "There is no room for another upload"),
    "host_refused": (421, "This service does not answer to this Host"),
    "queue_full": (429, "The queue is full"),
    "quota_exceeded": (429, "The tenant's quota is used up"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Something went wrong here"),
    "storage_failed": (500, "The disk that keeps artifacts fails"),
    "source_unavailable": (502, "The server that has the job's files does not give them"),
    "busy": (503, "Too many downloads are under way"),
    "crowded": (503, "As many callers as may be wait or look on"),
    "store_unavailable": (503, "The job store does not answer"),
    "disk_low": (503, "The disk is nearly full"),
    "store_unsuitable": (503, "The job store cannot keep jobs"),
}
#: Problems on our side: their details go to the log, the caller gets a sentence that gives nothing away.
_OURS = {
    "internal_error": "The request failed inside the service. Its log has the details under this request id.",
    "storage_failed": "An artifact cannot be read from the service's disk. Its log has the details.",
    "store_unavailable": "Redis does not answer. Nothing is known about the effect of this request; try again soon.",
    "store_unsuitable": "Redis answers, but does not keep what it is given. The service's log says what to change.",
}

#: What an answer said of its body before that turned out to be none.
_OF_THE_BODY = ("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag")

_compact = json.JSONEncoder(separators=(",", ":")).encode


def json_answer(body: dict[str, Any], status: int = 200) -> bytes:
    """A JSON object as this request's answer."""
    response.status = status
    response.content_type = "application/json"
    return _compact(body).encode()


def created(job: Job) -> dict[str, Any]:
    """What a submission is answered with."""
    return {"jobId": job.id, "type": job.type, "status": job.status, "createdAt": iso(job.created_ms)}


def now() -> str | None:
    """This moment, as answers show it."""
    return iso(time.time_ns() // 1_000_000)


def whole_number(name: str) -> int:
    """A number in the address' query, 0 if it is not there. Raises InvalidRequest."""
    given = request.query.get(name, "0")
    if not (given.isascii() and given.isdecimal() and len(given) <= 12):
        raise InvalidRequest([Mistake(f"?{name}", f"{name} must be a whole number from 0 on, of at most 12 digits.")])
    return int(given)


def idempotency_key() -> str:
    """The key that a submission comes with, "" without one. Raises InvalidRequest."""
    key: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return ""
    if not re.fullmatch(rf"[!-~]{{1,{MAX_KEY}}}", key):
        rule = f"Idempotency-Key must have 1 to {MAX_KEY} printable ASCII characters without spaces."
        raise InvalidRequest([Mistake("Idempotency-Key", rule)])
    return key


def file_answer(stream: BinaryIO, path: str, size: int, etag: str) -> Iterable[bytes]:
    """An open file of `size` bytes, or the range of it that is asked for; it is closed with the answer."""
    try:
        part = wire.wanted_range(request.environ, size, etag)
    except wire.RangeUnsatisfiable:
        stream.close()
        raise
    response.content_type = wire.content_type(path)
    response.set_header("Accept-Ranges", "bytes")
    if part:
        response.status = 206
        response.set_header("Content-Range", f"bytes {part.start}-{part.end - 1}/{size}")
    sent = part or wire.Range(0, size)
    response.content_length = sent.end - sent.start
    if sent.start == sent.end:  # Bottle closes no body that yields nothing
        stream.close()
        return []
    return outflow.downloads.hold(wire.FilePart(stream, sent))


def answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`handler`, with whatever it raises made an answer."""

    @functools.wraps(handler)
    def answer(**places: str) -> Any:
        try:
            return handler(**places)
        except ChefError as error:
            return problem_of(error)
        except Exception:
            log.exception("request %s failed", request.environ["chef.request_id"])
            return problem("internal_error")

    return answer


def problem_of(error: ChefError) -> bytes:
    """The answer that an error of ours leads to."""
    code = _code_of(error)
    for name in _OF_THE_BODY:
        response.headers.pop(name, None)
    if code in _OURS:
        log.error("request %s: %s: %s", request.environ["chef.request_id"], type(error).__name__, error)
    for name, value in _headers_of(error, code).items():
        response.set_header(name, value)
    return _answered(problem_document(error))


def problem_document(error: ChefError) -> dict[str, Any]:
    """What is said about an error of ours."""
    return _document(_code_of(error), str(error), error.mistakes if isinstance(error, InvalidRequest) else [])


def _code_of(error: ChefError) -> str:
    return error.code if error.code in PROBLEMS else "internal_error"


def _headers_of(error: ChefError, code: str) -> dict[str, str]:
    """What tells a program the same as the text."""
    if code in ("store_unavailable", "store_unsuitable", "disk_low", "crowded"):
        return {"Retry-After": str(RETRY_SOON_S)}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="chef-workers"'}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after_s), **rates.headers(error.taken)}
    if isinstance(error, QueueFull | QuotaExceeded | outflow.Busy):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, wire.RangeUnsatisfiable):
        return {"Content-Range": f"bytes */{error.size}"}
    return {}


def problem(code: str, detail: str = "", mistakes: Iterable[Mistake] = ()) -> bytes:
    """An RFC 9457 document as this request's answer."""
    return _answered(_document(code, detail, mistakes))


def _document(code: str, detail: str, mistakes: Iterable[Mistake]) -> dict[str, Any]:
    """`error` and `message` repeat the detail for clients that look there."""
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
    return problem


def _answered(problem: dict[str, Any]) -> bytes:
    body = json_answer(problem, problem["status"])
    response.content_type = "application/problem+json"
    return body
