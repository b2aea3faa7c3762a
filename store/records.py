"""How values of jobs.py are written into Redis, and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from jobs import Job, JobType, OutputChunk, Status, iso
from submission import RetryRule

_NUMBERS = tuple(field.name for field in fields(Job) if field.type == "int")
_TEXTS = tuple(field.name for field in fields(Job) if field.type == "str")
_TABLES = ("result", "metadata")
_LISTS = ("artifacts", "tags", "webhook")
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
    """The job of a record. Fields this version does not know are left out, missing ones have their defaults.

    Raises:
        One of BROKEN: The record cannot be read.
    """
    stored = {name.decode(): value.decode(errors="replace") for name, value in record.items()}
    values: dict[str, Any] = {name: stored[name] for name in _TEXTS if name in stored}
    values |= {name: int(stored[name]) for name in _NUMBERS if name in stored}
    values |= {name: json.loads(stored[name]) for name in _TABLES if name in stored}
    values |= {name: tuple(json.loads(stored[name])) for name in _LISTS if name in stored}
    values["attempts"] = tuple(_attempt(entry) for entry in json.loads(f"[{stored.get('attempts', '')}]"))
    if "retry" in stored:
        values["retry"] = RetryRule.from_json(json.loads(stored["retry"]))
    return Job(**{**values, "type": JobType(stored["type"]), "status": Status(stored["status"])})


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


def chunk_to_bytes(chunk: OutputChunk) -> bytes:
    """As the log keeps it: UTF-8 JSON."""
    values = {name: getattr(chunk, name) for name in _CHUNK}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def chunk_from_bytes(stored: bytes) -> OutputChunk:
    """The inverse of chunk_to_bytes."""
    return OutputChunk(**json.loads(stored))
