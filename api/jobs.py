"""Jobs over HTTP: taking them in, one or many, and reading their records and files."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from bottle import request, response

import intake
from api import batch, joblog, meter, outflow, spans, wire
from api.answers import created, file_answer, idempotency_key, json_answer
from api.guard import caller, own
from api.health import shortage
from api.query import Query
from api.sending import Sending
from api.watch import Watch
from artifacts import Shelf
from config import Settings
from earlier import Earlier
from errors import ArtifactNotFound, DiskLow
from inbox import Inbox
from jobs import Artifact, Job, Request, Status, iso
from neighbours import known
from store import Store, Submitted
from submission import Options

#: How long room on the disk that was seen counts (s).
ROOM_SEEN_S = 0.5

Submit = Callable[[Request, Options], Submitted]


class Jobs:
    """One method for each route."""

    def __init__(self, settings: Settings, store: Store, shelf: Shelf, submit: Submit, watch: Watch) -> None:
        """Keep the parts; nothing is opened."""
        self._bounds = settings.bounds
        self._max_wait = settings.max_wait
        self._body_bytes = settings.body_bytes
        self._min_free_disk = settings.min_free_disk
        self._keep_ms = int(settings.keep_days * 86_400_000)
        self._keep_bytes = settings.keep_bytes
        self._same_request = settings.same_request_is_same_job
        self._store = store
        self._shelf = shelf
        self._submit = submit
        #: How jobs and their projects arrive.
        self.sending = Sending(
            settings,
            Inbox(settings.uploads_dir, settings.keep_upload_s, settings.uploads_max_bytes),
            Earlier(store, shelf),
            self._require_room,
        )
        self._room_seen = float("-inf")
        self._watch = watch
        self._logs = joblog.JobLogs(store)

    @meter.counting
    def create_job(self) -> bytes:
        """Take a submission: 201 for a new job, which is stored then; 200 if it means one that is there already."""
        seconds = self._wait_seconds()
        sent = self.sending.received()
        bring = self.sending.bring if sent.attached is None else lambda _: sent.attached
        wanted, options = intake.parse(sent.body, self._bounds, bring, sent.attached is not None)
        with self._watch.place(seconds):
            taken = self.submit(wanted, options, **self._identity(sent.digest))
            response.set_header("Location", f"/api/jobs/{taken.job.id}")
            shown = self._ended(taken.job.id, seconds).to_json() if seconds else created(taken.job)
        return json_answer(shown, 201 if taken.created else 200)

    def create_jobs(self) -> bytes:
        """Take up to a hundred submissions: 200, and for each what it would have been answered alone."""
        Query().check()
        wire.require_json(request.environ)
        listed = batch.submissions(wire.read_body(request.environ, self._body_bytes))
        self._require_room()
        check = functools.partial(intake.check, bounds=self._bounds, bring=self.sending.bring)
        key = idempotency_key()
        identity = functools.partial(batch.keyed, key) if key else self._identity
        common = {"tenant": caller().owner, "trace": spans.place()}
        results = batch.submit(listed, check, common, identity, self._store.submit_all)
        return json_answer({"results": results, "created": sum(each["httpStatus"] == 201 for each in results)})

    def submit(self, wanted: Request, options: Options, **identity: str) -> Submitted:
        """Take a caller's job in, if there is room on the disk. Raises DiskLow, and what tasks.submit raises.

        `identity` are the fields of Options that tell this submission from others.
        """
        self._require_room()
        given: dict[str, Any] = {"tenant": caller().owner, "rates": meter.due(), "trace": spans.place(), **identity}
        taken = self._submit(wanted, dataclasses.replace(options, **given))
        meter.tell(taken.taken)
        spans.note_job(taken.job.id)
        return taken

    def job(self, job_id: str) -> bytes:
        """The record of a job; of one that waits, also why."""
        asked = Query()
        seconds, included = asked.wait_seconds(self._max_wait), asked.words("include", ("logs", "result"))
        asked.check()
        job = self._job(job_id)
        if seconds and not job.status.is_final:
            with self._watch.place(seconds):
                job = self._ended(job_id, seconds)
        record = job.to_json()
        if job.status is Status.PENDING and (waiting := self._store.waiting(job_id)):
            record["waiting"] = waiting.to_json()
        if "logs" in included:
            record["logs"]["text"] = self._logs.end_of(job)
        return json_answer(record)

    def artifacts(self, job_id: str) -> bytes:
        """What the job produced, with where to get it and until when; and how much all jobs keep, of what they may."""
        job = self._job(job_id)
        base = f"/api/jobs/{job.id}/artifacts/"
        listed = [
            {**artifact, "type": wire.content_type(artifact["path"]), "href": base + quote(artifact["path"])}
            for artifact in job.artifacts
        ]
        total = sum(artifact["size"] for artifact in job.artifacts)
        kept = {"keptBytes": self._kept_bytes(), "quotaBytes": self._keep_bytes or None}
        expires = iso(job.finished_ms + self._keep_ms) if self._keep_ms and job.finished_ms else None
        return json_answer({"jobId": job.id, "artifacts": listed, "totalBytes": total, "expiresAt": expires, **kept})

    def _kept_bytes(self) -> int:
        who = caller()
        return self._store.kept_bytes() if who.sees_all else self._store.tenant_figures(who.tenant)[1].get("bytes", 0)

    def archive(self, job_id: str) -> Iterable[bytes]:
        """All artifacts as one compressed tar file, made while it is sent."""
        job = self._job(job_id)
        blocks = self._shelf.tar_gz(job.id, job.fence, _kept(job))
        return _attached(blocks, f"{job.id}.tar.gz", "application/gzip")

    def zip_archive(self, job_id: str) -> Iterable[bytes]:
        """The same as a zip."""
        job = self._job(job_id)
        return _attached(self._shelf.zip(job.id, job.fence, _kept(job)), f"{job.id}.zip", "application/zip")

    def artifact(self, job_id: str, path: str) -> Iterable[bytes]:
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
            return []
        response.set_header("Content-Disposition", wire.attachment(path))
        return file_answer(self._shelf.open_file(job.id, job.fence, found["sha256"]), path, found["size"], etag)

    def _require_room(self) -> None:
        """Refuse new jobs before the disk is full: Redis ends when it cannot sync, and takes running jobs with it."""
        if time.monotonic() - self._room_seen > ROOM_SEEN_S:
            if why := shortage(self._shelf.free_bytes(), self._min_free_disk):
                raise DiskLow(why)
            self._room_seen = time.monotonic()

    def _identity(self, digest: str) -> dict[str, str]:
        """What tells this submission from others, as fields of Options: the caller's key, or else the body's digest."""
        if key := idempotency_key():
            return {"idempotency_key": key, "body_hash": digest}
        return {"fingerprint": digest if self._same_request else ""}

    def _wait_seconds(self) -> int:
        asked = Query()
        seconds = asked.wait_seconds(self._max_wait)
        asked.check()
        return seconds

    def _ended(self, job_id: str, seconds: int) -> Job:
        """The job once it has ended, or as it is when the time is over."""
        response.set_header("Preference-Applied", f"wait={seconds}")
        return self._watch.end_of(job_id, seconds)

    def _job(self, job_id: str) -> Job:
        return own(self._store, job_id)


def _kept(job: Job) -> list[Artifact]:
    return [Artifact(**known(Artifact, artifact)) for artifact in job.artifacts]


def _attached(blocks: Iterable[bytes], name: str, media_type: str) -> Iterable[bytes]:
    """`blocks` as a file that a browser saves."""
    response.content_type = media_type
    response.set_header("Content-Disposition", wire.attachment(name))
    return outflow.downloads.hold(blocks)
