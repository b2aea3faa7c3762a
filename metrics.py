"""The figures that /metrics shows: their names, what each means, and how a process adds up its own.

What happened is counted in one hash of Redis, so that all processes' figures are one and survive restarts. A field is
the metric's name and its labels' values, joined by |; a histogram has one field for each bucket (its upper bound in ms,
or inf) and one for the sum in ms.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: Upper bounds of all histograms (ms): from an answer of the API to the longest run.
BUCKETS_MS = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 1_800_000)
INFINITE = "inf"
SUM = "sum"
PREFIX = "chefworkers_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One name of the exposition, without PREFIX and without _total; `kind` as Prometheus has them."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    # counted in the moves themselves
    "jobs_submitted": Metric("counter", "Jobs that were taken in.", ("type",)),
    "jobs_finished": Metric("counter", "Jobs that ended.", ("type", "conclusion", "reason")),
    "job_retries": Metric("counter", "Attempts that were followed by another.", ("reason",)),
    "job_wait_seconds": Metric("histogram", "From the submission, or the moment due, to the first start.", ("type",)),
    "job_run_seconds": Metric("histogram", "From the start of an attempt to its end.", ("type",)),
    "leases_lost": Metric("counter", "Runs whose worker gave no sign of life in time."),
    "stale_writes_refused": Metric("counter", "Writes of runs that did not own their job any more."),
    "webhook_deliveries": Metric("counter", "Tries to deliver a webhook.", ("endpoint", "outcome")),
    # counted by the processes
    "job_phase_seconds": Metric("histogram", "One phase of a run.", ("type", "phase")),
    "container_start_seconds": Metric("histogram", "Getting a sandbox that waited, or making one.", ("path",)),
    "cache_hits": Metric("counter", "What did not have to be done again.", ("kind",)),
    "cache_misses": Metric("counter", "What had to be done.", ("kind",)),
    "docker_errors": Metric("counter", "Runs that the Docker Engine failed.", ("reason",)),
    "redis_errors": Metric("counter", "Calls that Redis did not answer or refused.", ("process",)),
    "log_dropped_bytes": Metric("counter", "Output that was not kept."),
    "http_requests": Metric("counter", "Requests that were answered.", ("method", "route", "status")),
    "http_request_seconds": Metric("histogram", "How long a handler took.", ("method", "route")),
    # as they are when they are asked for
    "jobs": Metric("gauge", "Jobs by queue and state.", ("queue", "state")),
    "queue_oldest_age_seconds": Metric("gauge", "How long the oldest job of a queue waits; 0: none does.", ("queue",)),
    "queue_paused": Metric("gauge", "1 while nothing of a queue is started.", ("queue",)),
    "workers": Metric("gauge", "Workers that give signs of life."),
    "slots": Metric("gauge", "Jobs that all workers can run at once, by state.", ("state",)),
    "worker_heartbeat_age_seconds": Metric("gauge", "Since a worker's last sign of life.", ("worker",)),
    "webhook_pending": Metric("gauge", "Deliveries that are still to be made.", ("endpoint",)),
    "webhook_exhausted": Metric("gauge", "Deliveries that were given up.", ("endpoint",)),
    "webhook_lag_seconds": Metric("gauge", "Age of the oldest delivery that is still to be made.", ("endpoint",)),
    "dead_letters": Metric("gauge", "Jobs that failed by no fault of their own."),
    "kept_bytes": Metric("gauge", "What finished jobs occupy."),
    "free_disk_bytes": Metric("gauge", "Room on the disk of DATA_DIR."),
    "redis_memory_bytes": Metric("gauge", "Memory that Redis uses."),
    "build": Metric("gauge", "Always 1; its label says what runs.", ("version",)),
}  # fmt: skip


class Tally:
    """What one process has counted and not yet handed on. Safe to share between threads."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to a counter of METRICS."""
        with self._lock:
            self._counted["|".join((name, *labels))] += by

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Add one value to a histogram of METRICS."""
        ms = max(0.0, seconds * 1000)
        place = bisect_left(BUCKETS_MS, ms)
        bucket = str(BUCKETS_MS[place]) if place < len(BUCKETS_MS) else INFINITE
        series = "|".join((name, *labels))
        with self._lock:
            self._counted[f"{series}|{bucket}"] += 1
            self._counted[f"{series}|{SUM}"] += round(ms)

    def taken(self) -> dict[str, int]:
        """All of it, field by field; the tally is empty then."""
        with self._lock:
            taken, self._counted = self._counted, Counter()
        return dict(taken)

    def give_back(self, taken: Mapping[str, int]) -> None:
        """Keep what could not be handed on."""
        with self._lock:
            self._counted.update(taken)
