"""What becomes of jobs afterwards: dead letters, removal, retention, and the repair of torn records."""

from __future__ import annotations

from errors import JobNotFound, MoveRefused
from store.connection import translated
from store.quarantine import Quarantine
from store.records import readable
from store.values import DeadLetter, Retention

SCAN_STEP = 500


class Keeping(Quarantine):
    """Housekeeping in small steps; each may be repeated and run by several processes at once."""

    _scan_cursor = 0

    def remove(self, job_id: str) -> None:
        """Forget a finished job: record, request, log. Its artifacts are the caller's to remove, before this.

        Raises:
            JobNotFound: There is no such job.
            MoveRefused: It has not finished.
        """
        answer = self._run("remove", job_id)
        if answer == b"missing":
            raise JobNotFound(f"no job {job_id}")
        if answer != b"ok":
            raise MoveRefused(f"{job_id} is {answer.decode()}: cancel it first, only finished jobs are removed")

    def prunable(self, retention: Retention, limit: int = 100) -> list[str]:
        """Up to `limit` finished jobs to remove now, oldest first; none whose result is still to be delivered."""
        bounds = (retention.max_age_ms, retention.max_jobs, retention.max_bytes)
        return [job_id.decode() for job_id in self._run("prunable", limit, *bounds)]

    def dead_letters(self, before: int | None = None, limit: int = 50) -> list[DeadLetter]:
        """Jobs that failed by no fault of theirs, newest first; for the next page pass the last one's cursor."""
        newest = f"({before}" if before is not None else "+inf"
        with translated():
            listed = self._redis.zrevrangebyscore(self._key("dead"), newest, "-inf", 0, limit, withscores=True)
            with self._pipeline() as pipe:
                for job_id, _ in listed:
                    pipe.hgetall(self._key("job", job_id.decode()))
                records = pipe.execute()
        jobs = map(readable, records)
        return [DeadLetter(job, int(number)) for job, (_, number) in zip(jobs, listed, strict=True) if job]

    def discard(self, job_id: str) -> None:
        """Take a dead letter off the list; the job's record stays. Raises JobNotFound."""
        with translated():
            found = self._redis.zrem(self._key("dead"), job_id)
        if not found:
            raise JobNotFound(f"no dead letter {job_id}")

    def tick(self) -> None:
        """Let happen what is due (leases, delays, expiries), and look through some records for torn ones."""
        self._run("tick")
        self.repair_some()

    def repair_some(self) -> None:
        """Look at the next few hundred records: bring each back into the indexes where it belongs, or set it aside."""
        prefix = self._key("job")
        with translated():
            self._scan_cursor, keys = self._redis.scan(self._scan_cursor, match=f"{prefix}*", count=SCAN_STEP)
        ids = [key[len(prefix) :] for key in keys]
        for broken in self._run("repair", *ids) if ids else ():
            self._set_aside(broken, b"", "the record lacks a field, or is of another type")
