"""Every operation of the API in words that a program can read: body, answers, and an example of each."""

from __future__ import annotations

import json
from typing import Any

from api import schemas
from api.described_functions import FUNCTIONS, PROJECTS, SCHEDULES, WORKERS
from api.described_keys import KEYS
from api.operations import ALL_QUEUES
from api.parameters import (
    CURSOR,
    EVENTS,
    FILTERS,
    ID,
    JOB,
    KEY,
    LINES,
    MOMENT,
    TRACE,
    Answer,
    Operation,
    Parameter,
    Schema,
    one_of,
    said,
    words,
)
from jobs import QUEUE_NAMES
from store import DELIVERY_STATES

# --- examples ---------------------------------------------------------------------------------------------------------

SUBMISSION = {
    "type": "build",
    "data": {
        "chatId": "chat-1",
        "projectFiles": {
            "package.json": '{"scripts": {"build": "mkdir -p dist && cp index.html dist"}}',
            "index.html": "<h1>Hello</h1>",
        },
    },
    "tags": ["nightly"],
}
CREATED = {"jobId": JOB, "type": "build", "status": "pending", "createdAt": MOMENT}
SUMMARY = {
    "jobId": JOB,
    "type": "build",
    "status": "completed",
    "progress": 100,
    "phase": "collecting",
    "priority": 5,
    "chatId": "chat-1",
    "createdAt": MOMENT,
    "runAt": None,
    "expiresAt": None,
    "startedAt": MOMENT,
    "finishedAt": "2026-12-01T08:00:03.210Z",
    "durationMs": 3210,
    "waitMs": 12,
    "attempt": 1,
    "conclusion": "success",
    "reason": None,
    "message": None,
    "tags": ["nightly"],
    "metadata": {},
    "logs": {"lines": 14, "href": f"/api/jobs/{JOB}/logs"},
}
FILE = {"path": "index.html", "size": 14, "sha256": "9e2a…"}
RECORD = {
    **SUMMARY,
    "result": {"exitCode": 0, "command": "npm run build", "phases": [{"name": "building", "durationMs": 812}]},
    "artifacts": [FILE],
    "attempts": [],
}
CLOSED: dict[str, Any] = {"paused": {"builds": {"reason": "disk is being cleaned", "since": MOMENT}}, "draining": {}}
DELIVERY = {
    "id": f"{JOB}-3.default",
    "jobId": JOB,
    "event": "job.completed",
    "endpoint": "default",
    "state": "accepted",
    "attempt": 1,
    "createdAt": MOMENT,
    "nextTryAt": None,
    "tries": [],
}
_STATE = {
    "jobId": JOB,
    "type": "build",
    "status": "completed",
    "progress": 100,
    "phase": "collecting",
    "attempt": 1,
    "conclusion": "success",
    "reason": None,
    "time": MOMENT,
}
_EVENT = f"id: 1796112003210-0.14\nevent: state\ndata: {json.dumps(_STATE)}\n\n"
_STREAM = Answer(
    "Events as server-sent events: state, progress, log, and gap where something is not kept any more.",
    example=_EVENT,
    media=("text/event-stream",),
)
_CLOSURES = Answer("What is closed now.", schemas.Closures, CLOSED)
_RERUN = Answer("The new job.", schemas.Record, {**RECORD, "status": "pending"}, headers=("Location",))
_NOTHING = Answer("It is gone.")

_SOURCES = ("source_not_allowed", "source_not_found", "source_not_ready", "source_unavailable")

# --- the table --------------------------------------------------------------------------------------------------------

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/"): Operation(
        "Service",
        {
            200: Answer(
                "The service.",
                schemas.About,
                {"service": "Chef Workers", "version": "0.1.0", "status": "running", "timestamp": MOMENT},
            )
        },
    ),
    ("GET", "/api/health"): Operation(
        "Service",
        {
            200: Answer(
                "It works, or does in part.",
                schemas.Health,
                {"status": "healthy", "redis": "connected", "version": "0.1.0", "timestamp": MOMENT},
            ),
            503: Answer(
                "It does not.",
                schemas.Health,
                {"status": "unhealthy", "redis": "unreachable", "version": "0.1.0", "timestamp": MOMENT},
                headers=("Retry-After",),
            ),
        },
    ),
    ("GET", "/api/stats"): Operation(
        "Service",
        {
            200: Answer(
                "The figures.",
                schemas.Stats,
                {
                    "timestamp": MOMENT,
                    "queues": {"builds": {"waiting": 3, "active": 1}},
                    "webhooks": {},
                    "counters": {"added": 4},
                    **CLOSED,
                },
            )
        },
    ),
    ("GET", "/api/openapi.json"): Operation("Service", {200: Answer("OpenAPI 3.1.", example={"openapi": "3.1.0"})}),
    ("GET", "/docs"): Operation("Service", {200: Answer("A page.", example="<!doctype html>", media=("text/html",))}),
    ("POST", "/api/jobs"): Operation(
        "Jobs",
        {
            201: Answer(
                "It is stored, and runs when it is its turn. With `wait`: the whole record.",
                schemas.Created,
                CREATED,
                headers=("Location",),
            ),
            200: Answer("It was there already.", schemas.Created, CREATED, headers=("Location",)),
        },
        (KEY, TRACE),
        {"$ref": "#/components/schemas/Submission"},
        SUBMISSION,
        needs_body=True,
        problems=(*_SOURCES, "idempotency_conflict", "queue_full", "disk_low", "crowded"),
    ),
    ("POST", "/api/jobs/batch"): Operation(
        "Jobs",
        {
            200: Answer(
                "What each would have been answered alone.",
                schemas.BatchResults,
                {"results": [{"httpStatus": 201, "job": CREATED}], "created": 1},
            )
        },
        (KEY, TRACE),
        {"$ref": "#/components/schemas/Batch"},
        {"jobs": [SUBMISSION]},
        needs_body=True,
        problems=("disk_low",),
    ),
    ("GET", "/api/jobs"): Operation(
        "Jobs", {200: Answer("A page of jobs.", schemas.JobList, {"jobs": [SUMMARY], "next": "64cb5ee1f8a3a"})}, FILTERS
    ),
    ("GET", "/api/jobs/<job_id>"): Operation(
        "Jobs",
        {200: Answer("The record.", schemas.Record, RECORD)},
        (Parameter("include", words("logs", "result"), "`logs`: the end of the log as text.", "logs"),),
        problems=("job_not_found", "crowded"),
    ),
    ("DELETE", "/api/jobs/<job_id>"): Operation(
        "Jobs", {204: _NOTHING}, problems=("job_not_found", "move_refused", "storage_failed")
    ),
    ("POST", "/api/jobs/<job_id>/cancel"): Operation(
        "Jobs",
        {200: Answer("The record.", schemas.Record, RECORD)},
        body=said("reason"),
        body_example={"reason": "the user closed the page"},
        problems=("job_not_found",),
    ),
    ("POST", "/api/jobs/<job_id>/rerun"): Operation("Jobs", {201: _RERUN}, problems=("job_not_found", "queue_full")),
    ("GET", "/api/jobs/<job_id>/logs"): Operation(
        "Output",
        {
            200: Answer(
                "The lines.",
                example="added 23 packages in 3s\n",
                media=("text/plain", "application/x-ndjson"),
                headers=("X-Next-Offset", "X-Log-Complete"),
            )
        },
        LINES,
        problems=("job_not_found",),
    ),
    ("GET", "/api/jobs/<job_id>/events"): Operation(
        "Live", {200: _STREAM, 204: Answer("You have seen the end.")}, EVENTS, problems=("job_not_found", "crowded")
    ),
    ("GET", "/api/events"): Operation("Live", {200: _STREAM}, EVENTS, problems=("crowded",)),
    ("GET", "/api/jobs/<job_id>/artifacts"): Operation(
        "Output",
        {
            200: Answer(
                "The files.",
                schemas.FileList,
                {
                    "jobId": JOB,
                    "artifacts": [{**FILE, "href": f"/api/jobs/{JOB}/artifacts/index.html"}],
                    "totalBytes": 14,
                },
            )
        },
        problems=("job_not_found",),
    ),
    ("GET", "/api/jobs/<job_id>/artifacts.tar.gz"): Operation(
        "Output",
        {200: Answer("The files.", media=("application/gzip",))},
        problems=("job_not_found", "artifact_not_found", "storage_failed"),
    ),
    ("GET", r"/api/jobs/<job_id>/artifacts/<path:re:[\s\S]+>"): Operation(
        "Output",
        {
            200: Answer("The file.", media=("*/*",), headers=("ETag",)),
            206: Answer("The part of it that Range asks for.", media=("*/*",), headers=("Content-Range",)),
            304: Answer("You have it."),
        },
        problems=("job_not_found", "artifact_not_found", "range_unsatisfiable", "storage_failed"),
    ),
    ("GET", "/api/dead-letters"): Operation(
        "Dead letters",
        {200: Answer("A page of them.", schemas.DeadLetters, {"deadLetters": [], "next": None})},
        (CURSOR,),
    ),
    ("POST", "/api/dead-letters/replay"): Operation(
        "Dead letters",
        {
            200: Answer(
                "What runs anew.", schemas.Replayed, {"replayed": [{"deadLetter": JOB, "jobId": JOB}], "count": 1}
            )
        },
        body=said("reason", "type", "chatId"),
        body_example={"reason": "runtime_unavailable"},
        problems=("queue_full",),
    ),
    ("POST", "/api/dead-letters/<job_id>/replay"): Operation(
        "Dead letters", {201: _RERUN}, problems=("job_not_found", "queue_full")
    ),
    ("DELETE", "/api/dead-letters/<job_id>"): Operation("Dead letters", {204: _NOTHING}, problems=("job_not_found",)),
    **{
        ("POST", f"/api/queues/<queue>/{verb}"): Operation(
            "Queues", {200: _CLOSURES}, body=body, body_example=example, problems=("not_found",)
        )
        for verb, body, example in (
            ("pause", said("reason"), {"reason": "disk is being cleaned"}),
            ("drain", said("reason"), {"reason": "the machine is replaced"}),
            ("resume", None, None),
        )
    },
    ("GET", "/api/jobs/<job_id>/deliveries"): Operation(
        "Webhooks",
        {200: Answer("Them.", schemas.DeliveryOfJob, {"jobId": JOB, "deliveries": [DELIVERY]})},
        problems=("job_not_found",),
    ),
    ("GET", "/api/deliveries"): Operation(
        "Webhooks",
        {
            200: Answer(
                "A page of them.",
                schemas.DeliveryList,
                {"state": "pending", "deliveries": [DELIVERY], "next": None},
            )
        },
        (one_of("state", DELIVERY_STATES, "Which; pending if unsaid."), CURSOR),
    ),
    ("POST", "/api/deliveries/<delivery_id>/resend"): Operation(
        "Webhooks",
        {202: Answer("It goes out again.", schemas.Resent, {"id": f"{JOB}-3.default", "state": "pending"})},
        problems=("not_found",),
    ),
    ("POST", "/api/webhooks/test"): Operation(
        "Webhooks",
        {200: Answer("How it went.", schemas.Trials, {"results": [], "accepted": True})},
        body=said("endpoint"),
        body_example={"endpoint": "default"},
        problems=("not_found",),
    ),
    ("POST", "/api/webhooks/<name>/enable"): Operation(
        "Webhooks",
        {200: Answer("How it stands with it.", schemas.Lane, {"endpoint": "default", "pending": 0, "exhausted": 0})},
        problems=("not_found",),
    ),
    **PROJECTS,
    **WORKERS,
    **SCHEDULES,
    **FUNCTIONS,
    **KEYS,
}
#: What stands in a path for a part of it.
PLACES: dict[str, tuple[Schema, Any]] = {
    "key_id": ({"type": "string", "pattern": "^[0-9a-f]{12}$"}, "9d98b668b513"),
    "job_id": ({"type": "string", "pattern": f"^{ID}$"}, JOB),
    "path": ({"type": "string", "minLength": 1}, "index.html"),
    "queue": ({"type": "string", "enum": [*QUEUE_NAMES, ALL_QUEUES]}, "builds"),
    "ticket": ({"type": "string", "minLength": 1}, "abc"),
    "worker": ({"type": "string", "minLength": 1}, "host-1"),
    "schedule_id": ({"type": "string", "minLength": 1}, "sched-0123456789abcdef"),
    "delivery_id": ({"type": "string", "minLength": 1}, f"{JOB}-3.default"),
    "name": ({"type": "string", "minLength": 1}, "default"),
}
