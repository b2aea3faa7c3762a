"""Takes files of an ended job into Convex storage, before the result that names them is posted."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from artifacts import Shelf
from errors import ArtifactNotFound, StorageFailed
from events import Delivery
from jobs import Job
from payload import Stored
from store import Store
from webhook import UPLOAD_DEADLINE_S, Outcome, Sender, Verdict

log = logging.getLogger(__name__)

What = Literal["none", "artifacts", "log"]
#: As many as a result of 20 KB has room to name, and what a lane can be kept busy with.
MAX_FILES = 64
MAX_FILE_BYTES = 20 << 20
MAX_BYTES = 50 << 20
LOG_PATH = "job.log"
#: A file that is on its way holds the delivery for as long as that may take, and a little more.
FILE_LEASE_MS = int(UPLOAD_DEADLINE_S * 1_000) + 15_000


@dataclass(frozen=True, slots=True)
class File:
    """One file to store; `open` makes its content readable."""

    path: str
    size: int
    sha256: str
    open: Callable[[], BinaryIO]

    def to_json(self) -> dict[str, Any]:
        """As the receiver is told of it."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Brought:
    """What is in storage now, and why a file is not, if one should be and is not."""

    stored: Stored
    failure: Outcome | None = None


class Uploads:
    """Uploads what the settings say. What was stored is noted in the outbox, so that it is not stored again."""

    def __init__(self, store: Store, shelf: Shelf, what: What) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._shelf = shelf
        self._what = what

    def bring(self, sender: Sender, job: Job, delivery: Delivery, lease_ms: int) -> Brought:
        """Upload the job's files that were not stored yet, and have `lease_ms` left for the delivery afterwards.

        Never raises for what the network, the receiver or the disk does: that is the outcome.

        Raises:
            LeaseLost: Another sender has the delivery.
        """
        files = self._files(job)
        known = self._store.stored_files(delivery)
        missing = [file for file in files if file.path not in known]
        failure = None
        if missing:
            addressed, failure = self._addressed(sender, job, delivery, missing)
            failure = self._store_all(sender, delivery, addressed) or failure
            self._store.hold_delivery(delivery, lease_ms)
            known = self._store.stored_files(delivery)
        return Brought(self._told(files, known), failure)

    def _store_all(self, sender: Sender, delivery: Delivery, addressed: Sequence[tuple[File, str]]) -> Outcome | None:
        """Upload these, and note each at once; the last failure, if there is one."""
        failure = None
        for file, url in addressed:
            self._store.hold_delivery(delivery, FILE_LEASE_MS)
            storage_id, outcome = self._put(sender, file, url)
            if storage_id:
                self._store.hold_delivery(delivery, FILE_LEASE_MS, file.path, storage_id)
                continue
            failure = outcome
            if outcome.verdict is Verdict.RETRY:  # the next one would fare no better
                break
        return failure

    def _files(self, job: Job) -> list[File]:
        if self._what == "log":
            return self._log(job) if job.log_lines else []
        files: list[File] = []
        left = MAX_BYTES
        for each in job.artifacts:
            if len(files) < MAX_FILES and each["size"] <= min(left, MAX_FILE_BYTES) and _is_text(each["path"]):
                files.append(self._artifact(job, each))
                left -= each["size"]
        return files

    def _artifact(self, job: Job, artifact: dict[str, Any]) -> File:
        sha256 = artifact["sha256"]
        return File(
            artifact["path"], artifact["size"], sha256, lambda: self._shelf.open_file(job.id, job.fence, sha256)
        )

    def _log(self, job: Job) -> list[File]:
        """All that is kept of the log, of all attempts; where it was cut, a line says so."""
        parts = []
        for chunk in self._store.log(job.id, max_bytes=MAX_FILE_BYTES):
            if chunk.dropped_lines:
                parts.append(f"[{chunk.dropped_lines:,} lines are missing here: the log was too long to keep them]\n")
            parts.append(chunk.text)
        content = "".join(parts).encode(errors="replace")
        sha256 = hashlib.sha256(content).hexdigest()
        return [File(LOG_PATH, len(content), sha256, lambda: io.BytesIO(content))]

    def _addressed(
        self, sender: Sender, job: Job, delivery: Delivery, files: Sequence[File]
    ) -> tuple[list[tuple[File, str]], Outcome | None]:
        """Each file with an upload URL; none, and why, if there are no URLs to be had."""
        body = json.dumps({"jobId": job.id, "files": [file.to_json() for file in files]}, ensure_ascii=False)
        outcome, content = sender.ask(f"{delivery.message_id}-files", "upload", body.encode())
        if outcome.verdict is not Verdict.ACCEPTED:
            return [], outcome
        try:
            urls = [str(each["url"]) for each in json.loads(content)["uploads"]]
        except (ValueError, KeyError, TypeError):
            urls = []
        # The answer stays out of the note: an upload URL is as good as a key.
        if len(urls) != len(files):
            return [], _failed("the answer has no URL for each file")
        return list(zip(files, urls, strict=True)), None

    def _put(self, sender: Sender, file: File, url: str) -> tuple[str, Outcome]:
        """The id of what is stored now; "" if nothing is, for the reason that the outcome gives."""
        try:
            with file.open() as content:
                outcome, answer = sender.upload(url, content, file.size, file.sha256)
        except (ArtifactNotFound, StorageFailed, ValueError) as error:
            return "", _failed(str(error))
        log.info("upload of %s: %s", file.path, outcome.note)
        if outcome.verdict is not Verdict.ACCEPTED:
            return "", outcome
        try:
            return str(json.loads(answer)["storageId"]), outcome
        except (ValueError, KeyError, TypeError):
            return "", _failed("the answer to an upload has no storageId")

    def _told(self, files: Sequence[File], stored: dict[str, str]) -> Stored:
        if self._what == "artifacts":
            return Stored(stored)
        told = [{**file.to_json(), "storageId": stored[file.path]} for file in files if file.path in stored]
        return Stored(log=told[0] if told else None)


def _is_text(path: str) -> bool:
    """False with half of a surrogate pair in it: such a name cannot be told."""
    return path.encode(errors="replace").decode() == path


def _failed(note: str) -> Outcome:
    return Outcome(Verdict.GIVE_UP, 0, 0.0, note, 0)
