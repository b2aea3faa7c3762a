"""How values of jobs.py are written into Redis, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import compact
from jobs import Job, JobType, OutputChunk, Status, iso
from neighbours import known, word
from submission import RetryRule

_CHUNK = tuple(field.name for field in fields(OutputChunk))
#: What reading a broken record raises.
BROKEN = (ValueError, KeyError, TypeError, AttributeError)


def job_from_reply(reply: Sequence[bytes]) -> Job:
    """The job of a record as Redis lists it: field, value, field, value ...

    Raises:
        One of BROKEN: The record cannot be read.
    """
    pairs = iter(reply)
    return job_from_record(dict(zip(pairs, pairs, strict=True)))


def job_from_record(record: dict[bytes, bytes]) -> Job:
    """The job of a record. Fields this version does not know are left out, missing ones have their defaults; a type or
    status that it does not know is shown as it is.

    Raises:
        One of BROKEN: The record cannot be read.
    """
    values: dict[str, Any] = {}
    for name, value in record.items():
        if field := _FIELDS.get(name):
            values[field[0]] = field[1](value.decode(errors="replace"))
    return Job(**values)


def readable(record: dict[bytes, bytes]) -> Job | None:
    """The job of a record, or None if there is none or it is broken."""
    try:
        return job_from_record(record) if record else None
    except BROKEN:
        return None


def _attempt(entry: dict[str, Any]) -> dict[str, Any]:
    """One attempt as the record shows it; kept as finish wrote it (record_attempt in lua/common.lua)."""
    return {
        "attempt": entry["attempt"],
        "startedAt": iso(entry["started_ms"]),
        "finishedAt": iso(entry["finished_ms"]),
        "worker": entry["owner"],
        "conclusion": entry["conclusion"],
        "reason": entry["reason"] or None,
        "message": entry["message"] or None,
        "logs": {"from": entry["log_from"], "to": entry["log_to"]},
        "decision": entry["decision"],
        "why": entry["why"] or None,
        "retryDelayMs": entry["delay_ms"] if entry["decision"] == "retry" else None,
    }


def _attempts(text: str) -> tuple[dict[str, Any], ...]:
    return tuple(_attempt(entry) for entry in json.loads(f"[{text}]"))


def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


def _retry(text: str) -> RetryRule:
    return RetryRule.from_json(json.loads(text))


#: Those that are neither text nor number.
_KINDS: dict[str, Callable[[str], Any]] = {
    "type": partial(word, JobType),
    "status": partial(word, Status),
    "attempts": _attempts,
    "retry": _retry,
    "result": json.loads,
    "metadata": json.loads,
    "artifacts": _list,
    "tags": _list,
    "webhook": _list,
}
#: A record's field -> the job's, and how it is read.
_FIELDS = {
    field.name.encode(): (field.name, _KINDS.get(field.name, int if field.type == "int" else str))
    for field in fields(Job)
}


def chunk_to_bytes(chunk: OutputChunk) -> bytes:
    """As the log keeps it: UTF-8 JSON."""
    values = {name: getattr(chunk, name) for name in _CHUNK}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def chunk_from_bytes(stored: bytes) -> OutputChunk:
    """The inverse of chunk_to_bytes."""
    return OutputChunk(**known(OutputChunk, compact.loads(stored)))
