"""Huey, worn as Huey: a queued run_job is the job's own record; all other tasks travel the ordinary way.

Stock Huey pops a message and forgets it, so a killed worker loses the job. Here `enqueue`, `dequeue` and the retry of
run_job go through the store's moves, which keep a lease for every running job. Everything else of Huey stays as it is:
decorators, signals, periodic tasks, health checks and the `huey_consumer` command.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import queue
import time
from collections.abc import Callable
from typing import Any

from huey import PriorityRedisHuey
from huey.registry import Message
from huey.serializer import Serializer

from store import Store

log = logging.getLogger(__name__)

#: Huey's priority queue puts the moment in front of each message, so that equals stay in order.
MOMENT_BYTES = 8


class JobHuey(PriorityRedisHuey):
    """A Huey whose job task is served from the store, for at most `slots` jobs at once in this process.

    Run it with one worker thread more than there are slots: that one does the ordinary tasks when all slots are taken.
    """

    def __init__(
        self,
        name: str,
        *,
        store: Store,
        owner: str,
        slots: int,
        url: str,
        slot_is_free: Callable[[int], bool] = lambda slot: True,
    ) -> None:
        """`owner` names this process in the records. No connection is opened before the first use.

        `slot_is_free` is asked before each claim: what an ended job left may keep its slot.
        """
        super().__init__(name, url=url, results=False, serializer=JsonSerializer())
        self.store = store  # may be replaced before the first use
        self._owner = owner
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._slots.put(slot)
        self._slot_is_free = slot_is_free
        self._job_task: type[Any] | None = None
        self._may_claim: Callable[[], bool] = lambda: True
        self._rests_until = 0.0

    def claim_if(self, check: Callable[[], bool]) -> Callable[[], bool]:
        """Decorate the function that is asked before each claim; while it answers False, jobs wait in the store."""
        self._may_claim = check
        return check

    def rest(self, seconds: float) -> None:
        """Claim no job for that long; ordinary tasks go on."""
        self._rests_until = time.monotonic() + seconds

    def job_task(self, **options: Any) -> Any:
        """Like `task(**options)`, for the one function that runs jobs: it is called as `function(job, slot)`."""

        def decorate(function: Any) -> Any:
            wrapper = self.task(**options)(function)
            self._job_task = wrapper.task_class
            return wrapper

        return decorate

    def enqueue(self, task: Any) -> Any:
        """A job task is taken in by the store, which answers Submitted; any other task is queued as usual."""
        if self._runs_job(task):
            return self.store.submit(*task.args)
        return super().enqueue(task)

    def dequeue(self) -> Any:
        """The best waiting job if a slot is free, else the next ordinary task, else None after a while."""
        slot = self._free_slot()
        if slot is None:
            return self._ordinary_task(self.storage.dequeue())
        job = None
        try:
            claim = self.store.claim(self._owner)
            job = claim.job
        finally:
            if job is None:
                self._slots.put(slot)
        if job is not None:
            return self._job_task(kwargs={"job": job, "slot": slot}, id=f"{job.id}.{job.fence}")  # type: ignore[misc]
        member = self.store.wait_for_work(self.storage.queue_key, claim.wait_ms / 1000)
        return self._ordinary_task(member and member[MOMENT_BYTES:])

    def execute(self, task: Any, timestamp: Any = None) -> Any:
        """Run a task; a job's slot is free again afterwards."""
        try:
            return super().execute(task, timestamp)
        finally:
            if self._runs_job(task):
                self._slots.put(task.kwargs["slot"])

    def is_revoked(self, task: Any, timestamp: Any = None, peek: bool = True) -> bool:
        """Jobs are cancelled in the store, never revoked."""
        return False if self._runs_job(task) else bool(super().is_revoked(task, timestamp, peek))

    def _requeue_task(self, task: Any, timestamp: Any, retry_eta: Any = None) -> None:
        # run_job records every end itself. If it could not, its lease runs out and the store hands the job on.
        if not self._runs_job(task):
            super()._requeue_task(task, timestamp, retry_eta)

    def _free_slot(self) -> int | None:
        if time.monotonic() < self._rests_until or not self._may_claim():
            return None
        for _ in range(self._slots.qsize()):
            try:
                slot = self._slots.get_nowait()
            except queue.Empty:
                break  # another thread took it
            if self._slot_is_free(slot):
                return slot
            self._slots.put(slot)
        return None

    def _runs_job(self, task: Any) -> bool:
        return self._job_task is not None and isinstance(task, self._job_task)

    def _ordinary_task(self, message: bytes | None) -> Any:
        """The task of a queued message; one that is not ours to read is set aside, and the consumer goes on."""
        if message is None:
            return None
        try:
            return self.deserialize_task(message)
        except Exception as error:  # noqa: BLE001  (whatever stands in the queue must not stop the consumer)
            log.warning("broken queue message of %s bytes set aside: %r", len(message), error)
            self.store.quarantine(self.storage.queue_key, message, repr(error)[:200])
            return None


class JsonSerializer(Serializer):
    """Huey's messages as JSON: nothing that is read from Redis can become code, as with the default pickle."""

    def _serialize(self, data: Message) -> bytes:
        if data.on_complete or data.on_error or data.chord_config:
            raise ValueError(f"{data.name}: pipelines and chords are not supported")
        fields = {**data._asdict(), "eta": data.eta and data.eta.isoformat()}
        return json.dumps(fields).encode()

    def _deserialize(self, data: bytes) -> Message:
        fields = json.loads(data)
        eta = fields["eta"]
        return Message(**{**fields, "eta": eta and dt.datetime.fromisoformat(eta), "args": tuple(fields["args"])})
