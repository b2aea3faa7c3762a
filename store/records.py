"""How values of jobs.py are written into Redis, and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from jobs import Job, JobType, OutputChunk, Request, Status, iso

_NUMBERS = tuple(field.name for field in fields(Job) if field.type == "int")
_TEXTS = tuple(field.name for field in fields(Job) if field.type == "str")
_TABLES = ("result", "metadata")
_LISTS = ("artifacts", "tags")


def job_fields(request: Request) -> dict[str, str | int]:
    """The fields of a new job's record that come from its request."""
    return {"type": request.type, "priority": request.priority, "chat_id": request.chat_id}


def job_from_reply(reply: Sequence[bytes]) -> Job:
    """The job of a record as Redis lists it: field, value, field, value ...

    Raises:
        ValueError, KeyError, TypeError: The record is broken.
    """
    pairs = iter(reply)
    return job_from_record(dict(zip(pairs, pairs, strict=True)))


def job_from_record(record: dict[bytes, bytes]) -> Job:
    """The job of a record. Fields this version does not know are left out, missing ones have their defaults.

    Raises:
        ValueError, KeyError, TypeError: The record is broken.
    """
    stored = {name.decode(): value.decode(errors="replace") for name, value in record.items()}
    values: dict[str, Any] = {name: stored[name] for name in _TEXTS if name in stored}
    values |= {name: int(stored[name]) for name in _NUMBERS if name in stored}
    values |= {name: json.loads(stored[name]) for name in _TABLES if name in stored}
    values |= {name: tuple(json.loads(stored[name])) for name in _LISTS if name in stored}
    values["attempts"] = tuple(_attempt(entry) for entry in json.loads(f"[{stored.get('attempts', '')}]"))
    return Job(**{**values, "type": JobType(stored["type"]), "status": Status(stored["status"])})


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
    return json.dumps(asdict(chunk), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def chunk_from_bytes(stored: bytes) -> OutputChunk:
    """The inverse of chunk_to_bytes."""
    return OutputChunk(**json.loads(stored))
