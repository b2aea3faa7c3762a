"""RQ as it comes."""

from __future__ import annotations

from rq import Queue  # type: ignore[import-not-found, import-untyped, unused-ignore]

from bench.produce import client, started

queue = Queue(connection=client())


def put(sent: float) -> object:
    """Enqueue one job."""
    return queue.enqueue(started, sent)
