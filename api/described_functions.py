"""The part of the description that tells of workers, schedules, named functions, uploads and previews."""

from __future__ import annotations

from typing import Any

from api import schemas
from api.parameters import JOB, KEY, MOMENT, TRACE, Answer, Operation, Parameter

_WORKER = {"name": "host-1", "drained": True}
_SCHEDULE = {
    "scheduleId": "sched-0123456789abcdef",
    "name": "nightly",
    "cron": "0 3 * * *",
    "timeZone": "Europe/Berlin",
    "overlap": "skip",
    "catchUp": "last",
    "paused": False,
    "createdAt": MOMENT,
}
_RUN = {"scheduleId": "sched-0123456789abcdef", "jobId": JOB, "status": "pending", "createdAt": MOMENT}
_FUNCTION: dict[str, Any] = {"name": "hello", "current": 1, "createdAt": MOMENT, "updatedAt": MOMENT}
_VERSION = {
    "version": 1,
    "state": "ready",
    "createdAt": MOMENT,
    "runtime": "node",
    "handler": "index.handler",
    "dependencies": {},
    "bytes": 1024,
    "jobId": JOB,
}
_CALL = {"jobId": JOB, "type": "function", "status": "pending", "createdAt": MOMENT}
_ENDED = {
    **_CALL,
    "status": "completed",
    "conclusion": "success",
    "reason": None,
    "result": {"function": {"value": {"hello": "Ada"}, "durationMs": 1.84}},
}
_WAIT = Parameter("wait", {"type": "integer", "minimum": 0, "maximum": 60}, "Seconds to wait for the end.", 10)
_ANY = {"type": "object"}
_HERE = ("not_found",)


def _of(text: str, model: type[schemas.Answered], example: Any) -> Answer:
    return Answer(text, model, example)


WORKERS: dict[tuple[str, str], Operation] = {
    ("GET", "/livez"): Operation("Service", {200: Answer("It does.", example={"status": "alive"})}),
    ("GET", "/readyz"): Operation(
        "Service",
        {200: Answer("They can.", example={"status": "ready"}), 503: Answer("They cannot.", headers=("Retry-After",))},
    ),
    ("GET", "/metrics"): Operation(
        "Service", {200: Answer("The figures.", example="chefworkers_up 1\n", media=("text/plain",))}
    ),
    ("GET", "/api/workers"): Operation(
        "Service", {200: _of("Them.", schemas.Workers, {"timestamp": MOMENT, "workers": []})}
    ),
    ("POST", "/api/workers/<worker>/drain"): Operation(
        "Service", {200: _of("What holds now.", schemas.Drained, _WORKER)}, problems=_HERE
    ),
    ("POST", "/api/workers/<worker>/resume"): Operation(
        "Service", {200: _of("What holds now.", schemas.Drained, {**_WORKER, "drained": False})}, problems=_HERE
    ),
}

SCHEDULES: dict[tuple[str, str], Operation] = {
    ("GET", "/api/schedules"): Operation(
        "Schedules", {200: _of("Them.", schemas.ScheduleList, {"schedules": [_SCHEDULE]})}
    ),
    ("POST", "/api/schedules"): Operation(
        "Schedules",
        {201: Answer("It is kept.", schemas.Schedule, _SCHEDULE, headers=("Location",))},
        body=_ANY,
        body_example={
            "name": "nightly",
            "cron": "0 3 * * *",
            "timeZone": "Europe/Berlin",
            "job": {"type": "test", "data": {"projectFiles": {"package.json": "{}"}}},
        },
        needs_body=True,
    ),
    ("GET", "/api/schedules/<schedule_id>"): Operation(
        "Schedules", {200: _of("It.", schemas.Schedule, _SCHEDULE)}, problems=_HERE
    ),
    ("DELETE", "/api/schedules/<schedule_id>"): Operation(
        "Schedules",
        {200: Answer("It is gone.", example={"scheduleId": "sched-0123456789abcdef", "removed": True})},
        problems=_HERE,
    ),
    **{
        ("POST", f"/api/schedules/<schedule_id>/{verb}"): Operation(
            "Schedules", {200: _of("It.", schemas.Schedule, _SCHEDULE)}, problems=_HERE
        )
        for verb in ("pause", "resume")
    },
    ("POST", "/api/schedules/<schedule_id>/run"): Operation(
        "Schedules",
        {
            201: Answer(
                "The job.", example={"scheduleId": "sched-0123456789abcdef", "jobId": JOB}, headers=("Location",)
            ),
            200: Answer("It was there already.", example={"scheduleId": "sched-0123456789abcdef", "jobId": JOB}),
        },
        (KEY,),
        problems=("not_found", "queue_full"),
    ),
}

FUNCTIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/api/functions"): Operation(
        "Functions", {200: _of("Them.", schemas.FunctionList, {"functions": [_FUNCTION], "count": 1, "most": 100})}
    ),
    ("GET", "/api/functions/<name>"): Operation(
        "Functions",
        {200: _of("It.", schemas.Function, {**_FUNCTION, "versions": [_VERSION]})},
        problems=("function_not_found",),
    ),
    ("PUT", "/api/functions/<name>"): Operation(
        "Functions",
        {
            201: Answer("The version, which is ready or failed.", schemas.Version, _VERSION, headers=("Location",)),
            202: Answer("The version, which is being made.", schemas.Version, {**_VERSION, "state": "making"}),
        },
        (_WAIT,),
        body=_ANY,
        body_example={
            "runtime": "node",
            "files": {"index.mjs": "export const handler = (event) => event"},
            "handler": "index.handler",
        },
        needs_body=True,
        problems=("function_not_found", "function_quota", "queue_full", "disk_low", "crowded"),
    ),
    ("DELETE", "/api/functions/<name>"): Operation(
        "Functions", {204: Answer("It is gone.")}, problems=("function_not_found",)
    ),
    ("POST", "/api/functions/<name>/invoke"): Operation(
        "Functions",
        {
            200: Answer("The record of the call, which has ended.", schemas.Record, _ENDED, headers=("Location",)),
            202: Answer(
                "The job of the call.",
                schemas.Created,
                {"jobId": JOB, "type": "function", "status": "pending", "createdAt": MOMENT},
            ),
        },
        (_WAIT, KEY, TRACE),
        body=_ANY,
        body_example={"event": {"name": "Ada"}},
        problems=(
            "function_not_found",
            "function_not_ready",
            "idempotency_conflict",
            "queue_full",
            "disk_low",
            "crowded",
        ),
    ),
    ("POST", "/api/functions/<name>/rollback"): Operation(
        "Functions",
        {200: _of("It.", schemas.Function, {**_FUNCTION, "versions": [_VERSION]})},
        body={
            "type": "object",
            "properties": {"version": {"type": "integer", "minimum": 1}},
            "required": ["version"],
            "additionalProperties": False,
        },
        body_example={"version": 1},
        needs_body=True,
        problems=("function_not_found", "function_not_ready"),
    ),
}

PROJECTS: dict[tuple[str, str], Operation] = {
    ("PUT", "/api/uploads"): Operation(
        "Jobs",
        {
            201: Answer(
                "Its id, for a job's `uploadId`.",
                example={"uploadId": "upload-0123456789abcdef0123456789abcdef", "files": 3, "expiresAt": MOMENT},
            )
        },
        body={"type": "string", "format": "binary"},
        body_media="application/octet-stream",
        needs_body=True,
        problems=("uploads_full", "disk_low"),
    ),
    ("GET", "/api/jobs/<job_id>/artifacts.zip"): Operation(
        "Output",
        {200: Answer("The files.", media=("application/zip",))},
        problems=("job_not_found", "artifact_not_found", "storage_failed"),
    ),
    ("GET", "/api/jobs/<job_id>/bundle"): Operation(
        "Output", {200: Answer("It.", media=("application/gzip",))}, problems=("job_not_found", "move_refused")
    ),
    ("POST", "/api/jobs/<job_id>/preview"): Operation(
        "Output",
        {201: Answer("The link.", example={"jobId": JOB, "url": "/preview/abc/", "expiresAt": MOMENT})},
        problems=("job_not_found", "artifact_not_found", "move_refused"),
    ),
    ("GET", "/preview/<ticket>"): Operation(
        "Output", {307: Answer("The site.", headers=("Location",))}, problems=("preview_not_found", "job_not_found")
    ),
    ("GET", r"/preview/<ticket>/<path:re:[\s\S]*>"): Operation(
        "Output",
        {200: Answer("A file of the site.", media=("*/*",)), 206: Answer("A part of it.", media=("*/*",))},
        problems=("preview_not_found", "job_not_found", "artifact_not_found", "range_unsatisfiable", "storage_failed"),
    ),
}
