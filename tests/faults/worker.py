"""The service's worker with the scripted executor: huey_consumer tests.faults.worker.huey

Everything else is the product. Only the waits for a receiver that failed are shorter.
"""

from __future__ import annotations

import os
from pathlib import Path

import delivery
import tasks
import uploads
import webhook
from tests.faults.ledger import RunLedger
from tests.faults.scripted import Scripted

delivery.LEASE_MS = uploads.FILE_LEASE_MS = 3_000
#: How many times faster than in earnest webhooks are tried again, where that matters.
clock = float(os.environ.get("WEBHOOK_CLOCK", "0"))  # noqa: TID251
waits = tuple(wait / clock for wait in webhook.RETRY_DELAYS_S) if clock else (1.0, 2.0, 4.0, 8.0, 16.0)
webhook.RETRY_DELAYS_S = waits  # type: ignore[assignment]
scripted = Scripted(RunLedger(Path(os.environ["CHAOS_LEDGER"])))  # noqa: TID251  (the tests say where)
tasks.executor = scripted  # type: ignore[assignment]
for write in ("progress", "append_log", "finish"):
    setattr(tasks.live, write, scripted.freezing(write, getattr(tasks.live, write)))
huey = tasks.huey
