"""What the tests of the store make jobs, results and output with."""

from __future__ import annotations

from typing import Any

from events import DEFAULT_ENDPOINT, Delivery
from jobs import Conclusion, Job, JobType, OutputChunk, Reason, Request, Result
from store import Store

SUCCESS = Result(Conclusion.SUCCESS)
BROKEN = Result(Conclusion.FAILURE, Reason.BUILD_FAILED, "the build says no")
FAULT = Result(Conclusion.ERROR, Reason.RUNTIME_UNAVAILABLE, "the engine does not answer")


def request(kind: JobType = JobType.BUILD, **fields: Any) -> Request:
    """A small request; keywords are fields of jobs.Request."""
    return Request(kind, **{"files": {"index.html": "<p>hello</p>"}, **fields})


def claimed(store: Store, **fields: Any) -> Job:
    """A new job, claimed by worker `w`, which must be the only one waiting."""
    store.add(request(**fields))
    return next_job(store)


def next_job(store: Store, owner: str = "w") -> Job:
    """The job that is claimed next; there must be one."""
    job = store.claim(owner).job
    assert job is not None
    return job


def lines(first: int, text: str, stream: str = "stdout") -> OutputChunk:
    """A chunk of output whose first line has the number `first`."""
    return OutputChunk(first, text.count("\n"), 1_700_000_000_000, "building", stream, text)


def due(store: Store, limit: int = 10, lease_ms: int = 30_000, endpoint: str = DEFAULT_ENDPOINT) -> list[Delivery]:
    """The deliveries that are due now, taken by a sender."""
    return store.claim_deliveries(endpoint, limit, lease_ms)[0]
