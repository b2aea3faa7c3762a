"""The service's worker with a short rest after a fault of the engine: huey_consumer tests.faults.restless.huey"""

from __future__ import annotations

import tasks

tasks.ENGINE_REST_S = 0.5
huey = tasks.huey
