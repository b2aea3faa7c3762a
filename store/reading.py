"""What can be asked of the store: records, requests, logs and figures. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterator

from errors import JobNotFound, MoveRefused
from jobs import QUEUE_NAMES, Job, OutputChunk, Request, Status
from store.connection import Connection, asked, translated
from store.records import BROKEN, chunk_from_bytes, readable

LOG_PAGE = 100


class Reading(Connection):
    """Reads of single keys, or of several in one round trip."""

    def ping(self) -> None:
        """Return if Redis answers."""
        with translated():
            self._redis.ping()

    def commands(self) -> Iterator[tuple[float, str]]:
        """(moment in Unix seconds, text) of every command that the server carries out from now on, for ever."""
        with translated(), self._redis.monitor() as monitor:
            for seen in monitor.listen():
                yield seen["time"], seen["command"]

    def get(self, job_id: str) -> Job:
        """A job's record. Raises JobNotFound if there is none, or it cannot be read."""
        with translated():
            stored = asked(self._redis, "HGETALL", self._key("job", job_id))
        job = readable(dict(zip(stored[::2], stored[1::2], strict=True)))
        if job is None:
            raise JobNotFound(f"no job {job_id}")
        return job

    def request(self, job_id: str) -> Request:
        """What was asked for. Raises JobNotFound, or ValueError, KeyError, TypeError if it is broken."""
        with translated():
            stored = self._redis.get(self._key("request", job_id))
        if stored is None:
            raise JobNotFound(f"no job {job_id}")
        return Request.from_bytes(stored)

    def known_request(self, job_id: str) -> Request:
        """request(), to be used anew. Raises JobNotFound, and MoveRefused if it cannot be read here."""
        try:
            return self.request(job_id)
        except BROKEN:
            raise MoveRefused(f"What {job_id} asks for cannot be read: it is broken, or of a newer release.") from None

    def stats(self) -> dict[str, dict[str, int]]:
        """How many jobs each queue has: waiting, delayed, active, completed, failed. Costs the same for any number."""
        figures = {name: ("", name) for name in ("waiting", "delayed", "active")}
        figures |= {status: (f":{status}", "ended") for status in Status if status.is_final}
        with translated(), self._pipeline() as pipe:
            for queue in QUEUE_NAMES:
                for suffix, name in figures.values():
                    pipe.zcard(self._key(name, queue + suffix))
            counted = iter(pipe.execute())
        return {queue: {str(figure): next(counted) for figure in figures} for queue in QUEUE_NAMES}

    def kept_bytes(self) -> int:
        """What all finished jobs together take: requests, logs and artifacts."""
        with translated():
            return int(self._redis.get(self._key("kept_bytes")) or 0)

    def tenant_figures(self, tenant: str) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
        """What stats and counters say, of one tenant's jobs alone; and the `bytes` that its finished jobs take."""
        with translated():
            stored = self._redis.hgetall(self._key("tally", tenant))
        tally = {name.decode(): int(number) for name, number in stored.items()}
        queues = {queue: _figures(tally, queue) for queue in QUEUE_NAMES}
        return queues, {name: number for name, number in tally.items() if ":" not in name}

    def counters(self) -> dict[str, int]:
        """What happened how often so far: added, retries, takeovers, stale_refused, ended_success ..."""
        with translated():
            counted = self._redis.hgetall(self._key("counters"))
        return {name.decode(): int(number) for name, number in counted.items()}

    def log(self, job_id: str, offset: int = 0, max_bytes: int = 1 << 20) -> list[OutputChunk]:
        """Output after line `offset`, in order: whole chunks until about `max_bytes` of text are reached.

        The next part begins at the last chunk's `end_line`. A job without output, or unknown, has none.
        """
        chunks: list[OutputChunk] = []
        size = 0
        while size < max_bytes:
            entries = self._log_entries(job_id, min=f"{offset + 1}-0")
            for stored in entries:
                chunks.append(chunk_from_bytes(stored))
                size += len(chunks[-1].text)  # characters are near enough
                if size >= max_bytes:
                    break
            if len(entries) < LOG_PAGE:
                break
            offset = chunks[-1].end_line
        return chunks

    def log_backwards(self, job_id: str, before: int) -> list[OutputChunk]:
        """Up to LOG_PAGE chunks that end at line `before` or earlier, the last one first."""
        return [chunk_from_bytes(stored) for stored in self._log_entries(job_id, max=f"{before}-0")]

    def _log_entries(self, job_id: str, **bound: str) -> list[bytes]:
        read = self._redis.xrange if "min" in bound else self._redis.xrevrange
        with translated():
            entries = read(self._key("log", job_id), **bound, count=LOG_PAGE)
        return [entry[b"chunk"] for _, entry in entries]


def _figures(tally: dict[str, int], queue: str) -> dict[str, int]:
    """The figures of one queue, as stats has them, from a tenant's tally."""
    delayed = tally.get(f"{queue}:delayed", 0)
    states = {str(status): tally.get(f"{queue}:{status}", 0) for status in Status if status is not Status.PENDING}
    return {"waiting": tally.get(f"{queue}:pending", 0) - delayed, "delayed": delayed, **states}
