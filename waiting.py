"""Waits for the end of a job, for callers that want the answer at once."""

from __future__ import annotations

import threading
import time

from jobs import Job
from store import Store

#: A call of a small function takes half a second: asked for often at first, then more rarely.
SHORTEST_S, LONGEST_S = 0.02, 0.25
#: Half of a process' threads: the others go on answering.
_places = threading.BoundedSemaphore(32)


def wait_for_end(store: Store, job_id: str, seconds: float) -> Job | None:
    """The record of a job that has ended, or None if it has not within `seconds`; 0 does not ask.

    When too many wait already, the answer is None at once.

    Raises:
        JobNotFound, StoreUnavailable: As Store.get does.
    """
    if not seconds or not _places.acquire(blocking=False):
        return None
    try:
        return _waited(store, job_id, time.monotonic() + seconds)
    finally:
        _places.release()


def _waited(store: Store, job_id: str, deadline: float) -> Job | None:
    pause_s = SHORTEST_S
    while time.monotonic() < deadline:
        job = store.get(job_id)
        if job.status.is_final:
            return job
        time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
        pause_s = min(LONGEST_S, pause_s * 1.1)
    return None
