"""A finished job to take home: its exact inputs, and a script that runs it again with plain Docker."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from bottle import response

from api import wire
from api.guard import own
from config import Settings
from errors import MoveRefused
from executor import reproduce
from executor.archive import MTIME
from executor.spec import House
from jobs import Job, Limits, Request
from store import Store


class Bundles:
    """Makes bundles. What the caller's variables were set to is never in them, only what they are called."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Keep the parts; nothing is opened."""
        self._limits = settings.limits
        self._store = store

    def bundle(self, job_id: str) -> bytes:
        """A tar.gz of run.sh, workspace.tar, seccomp.json and job.json."""
        job = own(self._store, job_id)
        ran = job.result.get("sandbox")
        if not job.status.is_final or not ran:
            raise MoveRefused(f"{job_id} has not run to an end in a sandbox, so there is nothing to run again.")
        request = self._store.known_request(job_id)
        limits = self._limits_of(job, request)
        try:
            house = House(ran["runtime"], in_memory=ran["workspace"] == "memory")
            again = reproduce.again(request, limits, ran["image"], house, job_id)
        except reproduce.NotReproducible as error:
            raise MoveRefused(f"{job_id} cannot be run again: {error}.") from None
        response.content_type = "application/gzip"
        response.set_header("Content-Disposition", wire.attachment(f"{job_id}-bundle.tar.gz"))
        told = json.dumps(_told(job, request), indent=2, ensure_ascii=False).encode("utf-8", "replace")
        files = {"run.sh": again.script.encode("utf-8", "replace"), "job.json": told}
        return _tar_gz(job_id, {**files, "seccomp.json": again.seccomp.encode(), "workspace.tar": again.workspace})

    def _limits_of(self, job: Job, request: Request) -> Limits:
        """What the last attempt had; after running out of memory that may be more than was asked for."""
        used = job.result.get("usage", {}).get("memoryLimitBytes")
        return self._limits.changed(request.limits | ({"memory_bytes": used} if used else {}))


def _told(job: Job, request: Request) -> dict[str, object]:
    """What a reader wants to know before running anything."""
    return {
        "jobId": job.id,
        "type": job.type,
        "steps": list(request.steps),
        "command": request.command,
        "testCommand": request.test_command,
        "dependencies": request.dependencies,
        "env": sorted(request.env),
        "artifacts": list(request.artifacts),
        "conclusion": job.conclusion,
        "reason": job.reason or None,
        "exitCode": job.result.get("exitCode"),
        "sandbox": job.result.get("sandbox"),
        "usage": job.result.get("usage"),
    }


def _tar_gz(folder: str, files: dict[str, bytes]) -> bytes:
    """The files in a folder; the same files give the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), MTIME, 0o755 if name == "run.sh" else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
