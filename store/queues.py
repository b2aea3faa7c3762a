"""The queues as a whole: pausing and draining them, and why a job waits."""

from __future__ import annotations

from jobs import QUEUE_NAMES
from store.connection import Connection, translated
from store.values import Closure, Closures, Waiting

ALL = "*"


class Queues(Connection):
    """A queue is named as in jobs.QUEUE_NAMES; ALL (`*`) stands for all of them."""

    def pause(self, queue: str = ALL, reason: str = "") -> None:
        """Start nothing from this queue until it is resumed; what runs goes on, what is submitted waits."""
        self._close("paused", queue, reason)

    def drain(self, queue: str = ALL, reason: str = "") -> None:
        """Take nothing into this queue until it is resumed; what waits and runs goes on."""
        self._close("draining", queue, reason)

    def resume(self, queue: str = ALL) -> None:
        """Undo pause and drain. All queues: also those closed one by one."""
        self._run("resume", *((ALL, *QUEUE_NAMES) if queue == ALL else (queue,)))

    def closures(self) -> Closures:
        """Which queues are paused or draining, with reason and moment."""
        with translated(), self._pipeline() as pipe:
            paused, draining = pipe.hgetall(self._key("paused")).hgetall(self._key("draining")).execute()
        return Closures(_closures(paused), _closures(draining))

    def waiting(self, job_id: str) -> Waiting | None:
        """Why a pending job waits and when it may start; None for any other job."""
        answer = self._run("waiting", job_id)
        if not answer:
            return None
        ahead, blocked_by, detail, slots, free, pace_ms, due_ms, now_ms = answer
        estimate = _estimated_start_ms(ahead, slots, free, pace_ms, max(now_ms, due_ms))
        if blocked_by == b"paused":
            estimate = 0
        return Waiting(ahead, blocked_by.decode(), detail.decode(errors="replace"), estimate)

    def _close(self, how: str, queue: str, reason: str) -> None:
        if queue not in (ALL, *QUEUE_NAMES):
            raise ValueError(f"no queue {queue}")
        self._run("close", how, queue, reason[:500])


def _closures(stored: dict[bytes, bytes]) -> dict[str, Closure]:
    parted = {queue.decode(): entry.decode(errors="replace").partition("|") for queue, entry in stored.items()}
    return {queue: Closure(reason, int(since)) for queue, (since, _, reason) in parted.items()}


def _estimated_start_ms(ahead: int, slots: int, free: int, pace_ms: int, earliest_ms: int) -> int:
    """With `slots` busy, one becomes free every pace_ms / slots on average."""
    if ahead < free:
        return earliest_ms
    if not slots or not pace_ms:
        return 0
    return earliest_ms + (ahead - free + 1) * pace_ms // slots
