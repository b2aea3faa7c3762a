"""The moves of a job's life, each one script of lua/: together they keep every promise about jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from errors import JobNotFound, LeaseLost
from jobs import Claim, Job, OutputChunk, Reason, Result, Retry
from store.connection import LONGEST_BLOCK_S, translated
from store.quarantine import Quarantine
from store.records import BROKEN, chunk_to_bytes, job_from_reply

#: Texts are stored up to this many characters.
MESSAGE_CHARS = 4_000
_COUNTED_IN = {"infrastructure": "infra_failures", "user": "user_failures"}


class Moves(Quarantine):
    """From claim to end. Methods that take a fence raise LeaseLost when that run no longer owns its job."""

    def claim(self, owner: str) -> Claim:
        """Take the best waiting job for `owner`, or learn how long nothing can be due (at most a second)."""
        found, answer = self._run("claim", owner, self.lease_ms, once=True)
        if not found:
            return Claim(None, answer)
        try:
            return Claim(job_from_reply(answer))
        except BROKEN as error:
            self._set_aside(answer[answer.index(b"id") + 1], b" ".join(answer), repr(error)[:200])
            return Claim(None)

    def beat(self, job_id: str, fence: int) -> bool:
        """Renew the lease; True if the job's cancellation is asked for. Raises LeaseLost."""
        return bool(_held(self._run("beat", job_id, fence, self.lease_ms), job_id))

    def progress(self, job_id: str, fence: int, percent: int, phase: str) -> None:
        """Record how far a run is; within an attempt the percentage never falls. Raises LeaseLost."""
        _held(self._run("progress", job_id, fence, percent, phase), job_id)

    def append_log(self, job_id: str, fence: int, chunks: Sequence[OutputChunk]) -> None:
        """Keep output, in order; chunks that are kept already are skipped. Raises LeaseLost."""
        pairs = [item for chunk in chunks for item in (chunk.end_line, chunk_to_bytes(chunk))]
        _held(self._run("append_log", job_id, fence, *pairs), job_id)

    def finish(self, job_id: str, fence: int, result: Result, retry: Retry | None = None, *, why: str = "") -> None:
        """Record how a run ended. Without `retry` that is the end of the job; `why` says why it is not tried again.

        The end, its webhook and its place in the statistics are one step. A job whose cancellation was asked for is
        not retried. The same call again is accepted. Raises LeaseLost.
        """
        decision = retry or Retry(0, why)
        answer = self._run(
            "finish",
            job_id,
            fence,
            result.conclusion,
            result.reason or "",
            result.message[:MESSAGE_CHARS],
            json.dumps(result.to_json()),
            json.dumps([artifact.to_json() for artifact in result.artifacts]),
            sum(artifact.size for artifact in result.artifacts),
            "retry" if retry else "final",
            decision.why,
            decision.delay_ms,
            _COUNTED_IN[decision.counts_as],
            int(result.detail.get("usage", {}).get("cpuSeconds", 0) * 1000),
        )
        _held(answer, job_id)

    def release(self, job_id: str, fence: int) -> None:
        """Hand the job back to its old place in the line; this run used no attempt. Raises LeaseLost."""
        _held(self._run("release", job_id, fence), job_id)

    def cancel(self, job_id: str, reason: Reason = Reason.CANCELLED, message: str = "") -> Job:
        """End a pending job now, ask an active one's run to stop, leave a finished one as it is.

        Raises:
            JobNotFound: There is no such job.
        """
        record = self._run("cancel", job_id, reason, message[:MESSAGE_CHARS])
        if not record:
            raise JobNotFound(f"no job {job_id}")
        return job_from_reply(record)

    def wait_for_work(self, also: str, timeout_s: float) -> bytes | None:
        """Block until a job may be claimed or the ZSET `also` has a member, at most `timeout_s` (and 5) seconds.

        Takes and returns that member; None if there is none. 0 seconds: look, do not block.
        """
        with translated():
            if timeout_s <= 0:
                members = self._once.zpopmin(also)
                return bytes(members[0][0]) if members else None
            popped = self._blocking.bzpopmin([also, self._key("bell")], timeout=min(timeout_s, LONGEST_BLOCK_S))
        return bytes(popped[1]) if popped and popped[0] == also.encode() else None


def _held(answer: bytes | int, job_id: str) -> bytes | int:
    if answer == b"lost":
        raise LeaseLost(f"this run no longer owns {job_id}")
    return answer
