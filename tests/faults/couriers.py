"""A process that only delivers, on a clock that runs faster: CLOCK=1200 python -m tests.faults.couriers

Endpoints and Redis come from the service's own settings. It runs until it is killed.
"""

from __future__ import annotations

import os
import signal

import config
import delivery
import webhook
from delivery import Courier
from payload import Form
from store import Store

clock = float(os.environ["CLOCK"])  # noqa: TID251  (the test says how fast)
webhook.RETRY_DELAYS_S = tuple(seconds / clock for seconds in webhook.RETRY_DELAYS_S)  # type: ignore[assignment]
delivery.LEASE_MS = 2_000
settings = config.load()
Courier(Store(settings.redis_url), settings.endpoints, Form()).start()
signal.pause()
