"""What bench/http.py compares the API with: Flask before RQ, under the same gunicorn. Checks the same few fields."""

from __future__ import annotations

from typing import Any

from flask import Flask, abort, request  # type: ignore[import-not-found, unused-ignore]
from rq import Queue  # type: ignore[import-not-found, import-untyped, unused-ignore]
from rq.job import Job  # type: ignore[import-not-found, import-untyped, unused-ignore]

from bench.produce import client

TYPES = ("build", "test", "lint", "analyze")
MAX_JOBS = 100

app = Flask(__name__)
queue = Queue(connection=client())


@app.post("/api/jobs")
def create() -> tuple[dict[str, Any], int]:
    kind, data = checked(request.get_json())
    return shown(queue.enqueue("builtins.print", kind, data)), 201


@app.post("/api/jobs/batch")
def create_many() -> dict[str, Any]:
    jobs = [checked(each) for each in request.get_json()["jobs"][:MAX_JOBS]]
    prepared = [Queue.prepare_data("builtins.print", args=job) for job in jobs]
    return {"results": [shown(job) for job in queue.enqueue_many(prepared)]}


@app.get("/api/jobs/<job_id>")
def read(job_id: str) -> dict[str, Any]:
    return shown(Job.fetch(job_id, connection=client()))


def checked(body: Any) -> tuple[str, dict[str, Any]]:
    data = body.get("data") if isinstance(body, dict) else None
    files = data.get("projectFiles") if isinstance(data, dict) else None
    if not files or body.get("type") not in TYPES or not all(isinstance(text, str) for text in files.values()):
        abort(400)
    return str(body["type"]), dict(data or {})


def shown(job: Any) -> dict[str, Any]:
    created = job.created_at.isoformat()
    return {"jobId": job.id, "type": job.args[0], "status": str(job.get_status(refresh=False)), "createdAt": created}
