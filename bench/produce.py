"""Puts no-op jobs into one of the queues, in a process of its own, and prints what that took.

    python -m bench.produce MODULE submit JOBS    seconds for so many jobs, one after the other over one connection
    python -m bench.produce MODULE probe TIMES    seconds from before each submission to the start of its job, as JSON

MODULE is one of bench/queues; its `put(sent)` submits one job. The job does nothing, unless `sent` is a moment: then
it says how long ago that was. BENCH_URL in the environment is the Redis database to use.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import redis

#: A worker that waits is idle after this; then the next probe comes.
PAUSE_S = 0.04
STARTED = "started"

Put = Callable[[float], object]


def main(module: str, verb: str, times: int) -> None:
    """Do what the command line says."""
    put: Put = importlib.import_module(f"bench.queues.{module}").put
    put(0)  # opens the connection
    print(submit(put, times) if verb == "submit" else json.dumps(probe(put, times)))


def submit(put: Put, jobs: int) -> float:
    """Seconds for `jobs` submissions."""
    began = time.perf_counter()
    for _ in range(jobs):
        put(0)
    return time.perf_counter() - began


def probe(put: Put, times: int) -> list[float]:
    """Seconds from submission to start, for jobs that come one at a time to a worker that waits."""
    delays = []
    for _ in range(times):
        time.sleep(PAUSE_S)
        put(time.time())
        answer: Any = client().blpop([STARTED], timeout=10)
        delays.append(float(answer[1]))
    return delays


def started(sent: float) -> bool:
    """What every job does."""
    if sent:
        client().rpush(STARTED, time.time() - sent)
    return True


@functools.cache
def client() -> redis.Redis:
    """The database of this contender."""
    return redis.Redis.from_url(os.environ["BENCH_URL"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
