"""The workers that serve the queues: signs of life, what they say of themselves, which are drained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from errors import NotFound
from jobs import QUEUE_NAMES
from store.connection import Connection, translated
from store.values import WorkerSeen


class Workers(Connection):
    """A worker is a process that runs jobs, named host:pid."""

    def heartbeat(self, worker: str, slots: int, facts: Mapping[str, Any] | None = None) -> bool:
        """Say that a worker lives and runs up to `slots` jobs at once; it counts as gone after the time of a lease.

        `facts` is what it says of itself, JSON-able. True if it is to take no more jobs.
        """
        return bool(self._run("heartbeat", worker, slots, self.lease_ms, json.dumps(dict(facts or {}))))

    def worker_gone(self, worker: str) -> None:
        """Say that a worker has stopped."""
        with translated(), self._pipeline() as pipe:
            pipe.zrem(self._key("workers"), worker).hdel(self._key("slots"), worker)
            pipe.hdel(self._key("worker_facts"), worker).srem(self._key("drained"), worker).execute()

    def workers(self) -> list[WorkerSeen]:
        """The workers that have been heard of within the time of a lease, by name, with the jobs they run."""
        with translated(), self._pipeline() as pipe:
            pipe.time().zrange(self._key("workers"), 0, -1, withscores=True).hgetall(self._key("slots"))
            pipe.hgetall(self._key("worker_facts")).smembers(self._key("drained"))
            (seconds, micros), beats, slots, facts, drained = pipe.execute()
            now_ms = seconds * 1000 + micros // 1000
            jobs = self._jobs_by_worker()
        return [
            WorkerSeen(
                name=(text := name.decode(errors="replace")),
                # A heartbeat is kept as the moment at which it counts as gone.
                beat_age_ms=max(0, self.lease_ms - int(until - now_ms)),
                slots=int(slots.get(name, 0)),
                facts=json.loads(facts.get(name, b"{}")),
                drained=name in drained,
                jobs=tuple(jobs.get(text, ())),
            )
            for name, until in sorted(beats)
            if until >= now_ms
        ]

    def drain_worker(self, worker: str, *, drained: bool) -> None:
        """Let a worker take no more jobs, or take them again, from its next heartbeat on. Raises NotFound."""
        with translated():
            if self._redis.zscore(self._key("workers"), worker) is None:
                raise NotFound("There is no worker of this name that gives signs of life.")
            change = self._redis.sadd if drained else self._redis.srem
            change(self._key("drained"), worker)

    def _jobs_by_worker(self) -> dict[str, list[str]]:
        with self._pipeline() as pipe:
            for queue in QUEUE_NAMES:
                pipe.zrange(self._key("active", queue), 0, -1)
            ids = [job_id.decode() for page in pipe.execute() for job_id in page]
            for job_id in ids:
                pipe.hget(self._key("job", job_id), "owner")
            owners = pipe.execute() if ids else []
        found: dict[str, list[str]] = {}
        for job_id, owner in zip(ids, owners, strict=True):
            found.setdefault((owner or b"").decode(errors="replace"), []).append(job_id)
        return found
