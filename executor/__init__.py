"""Runs jobs in throw-away containers: the only code that speaks to the Docker Engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from executor import archive, recipes
from executor.images import IMAGE_NAMES, Images
from executor.output import Log
from executor.run import Order, Run, Watch
from executor.sandbox import Engine
from executor.spec import LABEL, Tenancy
from jobs import Job, Limits, Reason, Request, Result

__all__ = ["Executor", "Watch"]

#: Added to a job's longest time in the label that says when its containers are surely over.
LABEL_GRACE_S = 60


class Executor:
    """Runs jobs at one Docker Engine. One object serves any number of worker threads; connects at first use."""

    def __init__(self, engine_url: str | None, images: Images, *, service: str = "cw") -> None:
        """`engine_url` None is the engine of this machine.

        `service` sets apart services that share an engine but not a store: a sweep of one leaves the others alone.
        """
        self._engine = Engine(engine_url)
        self._images = images
        self._service = service

    def run(self, job: Job, request: Request, limits: Limits, slot: int, watch: Watch) -> Result:
        """Run one attempt of a job to its end; when this returns or raises, its containers and volume are gone.

        A program that fails is a Result. `slot` is a number that no other running job on this machine has.

        Raises:
            RunStopped: `watch.stopped()` said so.
            EngineFault: The Docker Engine or an image failed, not the job.
        """
        try:
            plan = recipes.plan(request)
            blocks = archive.pack(plan.files)
        except recipes.Unworkable as error:
            return Result(error.reason.conclusion, error.reason, str(error))
        except ValueError as error:
            return Result(Reason.INVALID_PROJECT.conclusion, Reason.INVALID_PROJECT, str(error))
        tenancy = Tenancy(self._service, job.id, job.fence, slot, int(time.time() + limits.total_s + LABEL_GRACE_S))
        with contextlib.closing(Log(limits, job.log_lines, watch.output)) as log:
            return Run(
                self._engine, self._images, Order(plan, blocks, request.env, tenancy, limits), log, watch
            ).result()

    def prepare(self) -> list[str]:
        """Make sure that all job images are there; answer their references.

        Raises:
            ImageUnavailable: One can be neither pulled nor built; the text says what to do.
            EngineFault: The engine does not answer.
        """
        return [self._images.ensure(self._engine.client, name) for name in IMAGE_NAMES]

    def sweep(self, is_live: Callable[[str, int], bool]) -> list[str]:
        """Remove containers and volumes of this service whose (job, attempt) is not live; answer their names.

        Raises:
            EngineFault: The engine does not answer.
        """
        mine = f"{LABEL}.service={self._service}"
        return self._engine.remove(lambda job_id, attempt: not is_live(job_id, attempt), mine)

    def close(self) -> None:
        """Give the engine's connections back."""
        self._engine.close()
