"""Celery as it comes, on Redis for both messages and results; the results' database holds nothing else."""

from __future__ import annotations

import os

from celery import Celery  # type: ignore[import-not-found, import-untyped, unused-ignore]

from bench.produce import started

app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_RESULTS_URL"])
job = app.task(started, name="job")
put = job.delay
