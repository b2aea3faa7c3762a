"""An executor that does as the job's project says, and writes down that it was asked to."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from errors import EngineFault, RunStopped
from executor import Remark, Watch
from jobs import Artifact, Conclusion, Job, JobType, Limits, OutputChunk, Phase, Reason, Request, Result
from tests.faults.ledger import RunLedger

#: Where a job's instructions stand in its project.
PLAN = "plan.json"
#: Jobs of this chat kill the process of the API that stored them (see api.py). One that was there already does not.
DEADLY = "deadly"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job does to its worker. `freeze` and `die_first` happen in the first run only.

    freeze: The write (progress, append_log, keep, finish) directly before which the whole process stops.
    faults: How many attempts end with a fault of the engine.
    """

    ms: int = 50
    freeze: str = ""
    die: bool = False
    die_first: bool = False
    faults: int = 0

    def request(self, chat: str = "chat") -> Request:
        """A job with these instructions."""
        return Request(JobType.BUILD, files={PLAN: json.dumps(asdict(self))}, chat_id=chat)


class Scripted:
    """Stands for executor.Executor."""

    def __init__(self, ledger: RunLedger) -> None:
        self._ledger = ledger
        self._freezes: dict[str, str] = {}

    def run(
        self, job: Job, request: Request, limits: Limits, slot: int, watch: Watch, tree: Sequence[bytes] = ()
    ) -> Result:
        """Act out the plan, and write down that it was done."""
        plan = Plan(**json.loads(request.files[PLAN]))
        self._freezes[job.id] = plan.freeze
        self._ledger.write(job.id, job.fence, job.attempt, "start")
        if plan.die or (plan.die_first and job.fence == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            artifact = self._steps(job, plan, watch)
        except RunStopped:
            self._ledger.write(job.id, job.fence, job.attempt, "stopped")
            raise
        if job.attempt <= plan.faults:
            self._ledger.write(job.id, job.fence, job.attempt, "fault")
            raise EngineFault(Reason.CONTAINER_START_FAILED, "as planned")
        self._ledger.write(job.id, job.fence, job.attempt, "end")
        return Result(Conclusion.SUCCESS, artifacts=(artifact,))

    def sweep(self, is_live: Callable[[str, int], bool]) -> list[str]:
        return []

    def remarks(self, limits: Limits) -> list[Remark]:
        return []

    def park(self, limits: Limits) -> None:
        """Nothing waits."""

    def unpark(self) -> None:
        """Nothing waits."""

    def has_room(self, limits: Limits) -> bool:
        return True

    parked = 0

    def before(self, write: str, job_id: str, fence: int) -> None:
        """Stop this process if the job's plan wants it here."""
        if self._freezes.get(job_id) == write and fence == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.1)  # the signal reaches this thread a little later than the call returns

    def freezing(self, write: str, move: Callable[..., None]) -> Callable[..., None]:
        """`move`, a write of the store, with the stop directly before it."""

        def late(job_id: str, fence: int, *rest: object) -> None:
            self.before(write, job_id, fence)
            move(job_id, fence, *rest)

        return late

    def _steps(self, job: Job, plan: Plan, watch: Watch) -> Artifact:
        said = f"said by run {job.fence}"
        _pause(plan.ms / 2, watch)
        watch.progress(10 + job.fence, Phase.BUILDING)
        watch.output(OutputChunk(job.log_lines, 1, 0, Phase.BUILDING, "stdout", f"{said}\n"))
        self.before("keep", job.id, job.fence)
        artifact = watch.keep("out.txt", [said.encode()])
        _pause(plan.ms / 2, watch)
        return artifact


def _pause(ms: float, watch: Watch) -> None:
    until = time.monotonic() + ms / 1000
    while True:
        if watch.stopped():
            raise RunStopped("as a container would")
        left_s = until - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(0.05, left_s))
