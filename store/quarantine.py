"""What is broken or forged: kept for people to look at, and out of everybody's way."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from store.connection import Connection, translated

log = logging.getLogger(__name__)

RAW_BYTES = 4_000


class Quarantine(Connection):
    """A bounded list: the newest 200 findings stay."""

    def quarantine(self, where: str, raw: bytes, why: str) -> None:
        """Keep a finding; of its bytes the first 4,000."""
        finding = {
            "at_ms": time.time_ns() // 1_000_000,
            "where": where,
            "why": why,
            "size": len(raw),
            "raw": raw[:RAW_BYTES].decode(errors="backslashreplace"),
        }
        self._run("quarantine", json.dumps(finding))

    def quarantined(self, limit: int = 50) -> list[dict[str, Any]]:
        """The newest findings first: at_ms, where, why, size, raw."""
        with translated():
            return [json.loads(finding) for finding in self._redis.lrange(self._key("quarantine"), 0, limit - 1)]

    def _set_aside(self, job_id: bytes, raw: bytes, why: str) -> None:
        """A record that cannot be used becomes a finding; what can be found of the job is forgotten."""
        log.error("broken record set aside", extra={"job": job_id.decode(errors="replace"), "why": why})
        self.quarantine(f"job {job_id.decode(errors='replace')}", raw, why)
        self._run("set_aside", job_id)
