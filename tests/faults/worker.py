"""The service's worker with the scripted executor: huey_consumer tests.faults.worker.huey

Everything else is the product. Only the waits for a receiver that failed are shorter.
"""

from __future__ import annotations

import os
from pathlib import Path

import delivery
import tasks
import webhook
from tests.faults.ledger import RunLedger
from tests.faults.scripted import Scripted

delivery.LEASE_MS = 3_000
webhook.RETRY_DELAYS_S = (1, 2, 4, 8, 16)  # type: ignore[assignment]
scripted = Scripted(RunLedger(Path(os.environ["CHAOS_LEDGER"])))  # noqa: TID251  (the tests say where)
tasks.executor = scripted  # type: ignore[assignment]
for write in ("progress", "append_log", "finish"):
    setattr(tasks.live, write, scripted.freezing(write, getattr(tasks.live, write)))
huey = tasks.huey
