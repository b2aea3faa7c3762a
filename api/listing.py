"""Lists jobs: filters, text, cursor, chosen fields; several by their ids."""

from __future__ import annotations

from typing import Any

import store
from api.answers import json_answer
from api.guard import caller
from api.query import Query
from api.schemas import FIELDS
from jobs import Conclusion, Job, JobType, Reason, Status, is_id
from store import HEAVY, Store

PAGE, MAX_PAGE = 50, 200
MAX_IDS = 100
MIN_TEXT = 2
TAG = r"[A-Za-z0-9._:/-]{1,64}"
_CHOICES: dict[str, tuple[str, ...]] = {
    "status": tuple(Status),
    "conclusion": tuple(Conclusion),
    "reason": tuple(Reason),
    "type": tuple(JobType),
}


class Listing:
    """One method for the one route."""

    def __init__(self, store: Store) -> None:
        """Keep the store; nothing is opened."""
        self._store = store

    def jobs(self) -> bytes:
        """The newest jobs that pass all filters, or those of the given ids. What may be large is left out unasked."""
        asked = Query()
        fields = asked.words("fields", FIELDS)
        included = asked.words("include", ("result", "artifacts", "attempts"))
        ids = asked.text("ids", MAX_IDS * 37).split(",") if asked.has("ids") else []
        query = _query(asked)
        if ids and (len(ids) > MAX_IDS or not all(map(is_id, ids))):
            asked.mistake("ids", f"ids must be up to {MAX_IDS} ids of jobs, separated by commas.")
        asked.check()
        if ids:
            return self._by_ids(ids, fields, included)
        page = self._store.find(query, _unwanted(fields, included))
        following = f"{page.below:x}" if page.below else None
        return json_answer({"jobs": [_shown(job, fields, included) for job in page.jobs], "next": following})

    def _by_ids(self, ids: list[str], fields: tuple[str, ...], included: tuple[str, ...]) -> bytes:
        read = self._store.get_many(ids, _unwanted(fields, included))
        found = [job if job and caller().sees(job.tenant) else None for job in read]
        missing = [job_id for job_id, job in zip(ids, found, strict=True) if job is None]
        shown = [_shown(job, fields, included) for job in found if job]
        return json_answer({"jobs": shown, "next": None, "missing": missing})


def _query(asked: Query) -> store.Query:
    indexes = [f"{name}:{word}" for name, choices in _CHOICES.items() if (word := asked.word(name, choices))]
    if chat := asked.text("chatId"):
        indexes.append(f"chat:{chat}")
    tags = asked.matching("tag", TAG, "a word of up to 64 letters, digits and . _ : / -")
    text = asked.text("q", 100)
    if 0 < len(text) < MIN_TEXT:
        asked.mistake("q", f"q must have at least {MIN_TEXT} characters.")
    cursor = asked.matching("cursor", "[0-9a-f]{1,13}", "what an answer gave as next", most=1)
    return store.Query(
        tenant=caller().owner,  # everybody's jobs are in the index of no tenant
        limit=asked.number("limit", PAGE, 1, MAX_PAGE),
        indexes=(*indexes, *(f"tag:{tag}" for tag in dict.fromkeys(tags))),
        text=text,
        from_ms=asked.moment("from"),
        to_ms=asked.moment("to"),
        below=int(cursor[0], 16) if cursor else 0,
    )


def _unwanted(fields: tuple[str, ...], included: tuple[str, ...]) -> frozenset[str]:
    return HEAVY - set(fields) - set(included)


def _shown(job: Job, fields: tuple[str, ...], included: tuple[str, ...]) -> dict[str, Any]:
    """The record without what is large, with what is included, or with the chosen fields only."""
    record = job.to_json()
    if fields:
        return {name: record[name] for name in (*fields, *included) if name in record}
    return {name: value for name, value in record.items() if name not in HEAVY or name in included}
