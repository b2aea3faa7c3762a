"""What changes jobs and queues after submission: cancel, rerun, remove, dead letters, pause, drain, resume."""

from __future__ import annotations

from typing import Any

from bottle import request, response

import intake
from api import spans, wire
from api.answers import json_answer, whole_number
from api.guard import PAGE, caller, own, own_page
from artifacts import Shelf
from errors import InvalidRequest, Mistake, MoveRefused, NotFound
from jobs import QUEUE_NAMES, Job, Reason
from store import Store

MAX_BODY_BYTES = 16 << 10
MAX_REASON = 500
MAX_REPLAYED = 1_000
#: How the address names all queues together.
ALL_QUEUES = "all"


class Operations:
    """One method for each route. A body is optional everywhere: an object that may hold `reason`, a sentence."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._shelf = shelf

    def cancel(self, job_id: str) -> bytes:
        """End a waiting job now, ask a running one to stop; a finished one stays as it is."""
        message = said("reason")["reason"]
        return json_answer(self._store.cancel(self._own(job_id), Reason.CANCELLED, message).to_json())

    def rerun(self, job_id: str) -> bytes:
        """A new job with the same request."""
        return _created(self._store.rerun(self._own(job_id), trace=spans.place()))

    def remove(self, job_id: str) -> bytes:
        """Forget a finished job and its files."""
        job = own(self._store, job_id)
        if not job.status.is_final:
            raise MoveRefused(f"{job_id} is {job.status}: cancel it first, only finished jobs are removed.")
        self._shelf.remove(job_id)
        self._store.remove(job_id)
        response.status = 204
        return b""

    def dead_letters(self) -> bytes:
        """Jobs that failed by no fault of theirs, newest first; `next` is the cursor of the following page."""
        cursor = whole_number("cursor") or None
        letters, following = own_page(
            lambda before: self._store.dead_letters(before, PAGE), cursor, lambda letter: letter.job.tenant
        )
        return json_answer({"deadLetters": [letter.job.to_json() for letter in letters], "next": following})

    def replay(self, job_id: str) -> bytes:
        """Run one dead letter's job anew."""
        return _created(self._store.replay(self._own(job_id), trace=spans.place()))

    def replay_all(self) -> bytes:
        """Run anew all dead letters that match the body's `reason`, `type` and `chatId`; at most 1,000 in one call."""
        wanted = {name: text for name, text in said("reason", "type", "chatId").items() if text}
        replayed: list[dict[str, str]] = []
        cursor: int | None = None
        while letters := self._store.dead_letters(cursor, PAGE):
            for letter in letters:
                shown = letter.job.to_json()
                is_own = caller().sees(letter.job.tenant)
                if (
                    is_own
                    and len(replayed) < MAX_REPLAYED
                    and all(shown[name] == text for name, text in wanted.items())
                ):
                    replayed.append({"deadLetter": letter.job.id, "jobId": self._replayed(letter.job.id)})
            cursor = letters[-1].cursor
        return json_answer({"replayed": replayed, "count": len(replayed)})

    def _replayed(self, job_id: str) -> str:
        return self._store.replay(job_id, trace=spans.place()).id

    def discard(self, job_id: str) -> bytes:
        """Take a dead letter off the list; the job's record stays."""
        self._store.discard(self._own(job_id))
        response.status = 204
        return b""

    def pause(self, queue: str) -> bytes:
        """Start nothing from a queue, or from all, until it is resumed."""
        self._store.pause(_queue(queue), said("reason")["reason"])
        return self._closures()

    def drain(self, queue: str) -> bytes:
        """Take nothing into a queue, or into any, until it is resumed."""
        self._store.drain(_queue(queue), said("reason")["reason"])
        return self._closures()

    def resume(self, queue: str) -> bytes:
        """Undo pause and drain."""
        self._store.resume(_queue(queue))
        return self._closures()

    def _own(self, job_id: str) -> str:
        return own(self._store, job_id).id

    def _closures(self) -> bytes:
        return json_answer(self._store.closures().to_json())


def _created(job: Job) -> bytes:
    response.set_header("Location", f"/api/jobs/{job.id}")
    return json_answer(job.to_json(), 201)


def _queue(name: str) -> str:
    """The store's name for a queue in an address."""
    if name not in (ALL_QUEUES, *QUEUE_NAMES):
        raise NotFound(f"There is no queue of this name; there are {', '.join(QUEUE_NAMES)} and {ALL_QUEUES}.")
    return "*" if name == ALL_QUEUES else name


def said(*fields: str) -> dict[str, str]:
    """The texts that an optional JSON body holds under these names, "" for the others. Raises InvalidRequest."""
    body = wire.read_body(request.environ, MAX_BODY_BYTES)
    if not body:
        return dict.fromkeys(fields, "")
    wire.require_json(request.environ)
    document: dict[str, Any] = intake.read_json(body)
    known = ", ".join(fields)
    mistakes = [
        Mistake(f"#/{name[:200]}", f"This must be a text of at most {MAX_REASON} characters; known here: {known}.")
        for name, value in document.items()
        if name not in fields or not isinstance(value, str) or len(value) > MAX_REASON
    ]
    if mistakes:
        raise InvalidRequest(mistakes)
    return dict.fromkeys(fields, "") | document
