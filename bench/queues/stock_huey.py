"""Huey as it comes, with priorities and results."""

from __future__ import annotations

import os

from huey import PriorityRedisHuey

from bench.produce import started

huey = PriorityRedisHuey("bench", url=os.environ["BENCH_URL"])
put = huey.task(priority=5)(started)
