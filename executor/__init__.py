"""Runs jobs in throw-away containers: the only code that speaks to the Docker Engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from errors import EngineFault
from executor import archive, dependencies, functions, house, installers, parking, recipes, spec, survey
from executor.budget import Budget, Share
from executor.cellar import Cellar, Larder
from executor.dependencies import Trees
from executor.egress import Egress
from executor.egress import Rules as EgressRules
from executor.house import Wish
from executor.images import IMAGE_NAMES, NODE, PYTHON, Images
from executor.masking import Masker
from executor.output import Log
from executor.packing import Packing
from executor.parcels import Parcels
from executor.parking import Attempt, Lot, Parking
from executor.recipes import Plan
from executor.remarks import Remarks
from executor.run import Ground, Keeping, Order, Run, Watch
from executor.sandbox import Engine
from executor.survey import Remark
from jobs import Conclusion, Job, JobType, Limits, Reason, Request, Result
from metrics import Tally

__all__ = ["EgressRules", "Executor", "Larder", "Remark", "Watch", "Wish"]

#: What the images of jobs are called in settings.
IMAGES_OF_JOBS = {"node": NODE, "python": PYTHON}
NOTED_WAIT_S = 0.5


class Executor:
    """Runs jobs at one Docker Engine. One object serves any number of worker threads; connects at first use."""

    def __init__(
        self,
        engine_url: str | None,
        images: Images,
        *,
        service: str = "cw",
        rules: EgressRules | None = None,
        wish: Wish | None = None,
        tally: Tally | None = None,
        larder: Larder | None = None,
    ) -> None:
        """`engine_url` None is the engine of this machine.

        `service` sets apart services that share an engine but not a store: a sweep of one leaves the others alone.
        `rules` say what installs may reach, `wish` what the sandboxes have in common. `tally` counts for metrics,
        `larder` says which installed dependencies are kept for later jobs; None: none are.

        Raises:
            ValueError: A rule names no host or network.
        """
        self._engine = Engine(engine_url)
        self._images = images
        self._service = service
        self._rules = rules or EgressRules()
        self._rules.check()
        self._wish = wish or Wish()
        self._tally = tally or Tally()
        self._larder = larder or Larder()
        self._job_images: tuple[str, ...] = ()
        self._ground: Ground | None = None
        self._lock = threading.Lock()
        self._in_slot: dict[int, str] = {}

    def run(
        self, job: Job, request: Request, limits: Limits, slot: int, watch: Watch, tree: Sequence[bytes] = ()
    ) -> Result:
        """Run one attempt of a job to its end.

        When this returns or raises, none of the job's code runs any more; its containers and volume are gone, or go in
        the next moment. A program that fails is a Result. `slot` is a number that no other running job on this machine
        has. The job's `env` is masked in all that is said of it. `tree` is what a function's version was packed to; the
        job that makes one has it as its only artifact.

        Raises:
            RunStopped: `watch.stopped()` said so.
            EngineFault: The Docker Engine or an image failed, not the job; or the slot is not free.
        """
        mask = Masker(request.env)
        try:
            plan = functions.planned(request)
            blocks = [*tree, *archive.pack(plan.files, plan.tools, request.binary)]
        except recipes.Unworkable as error:
            return Result(error.reason.conclusion, error.reason, mask(str(error)))
        except ValueError as error:
            return Result(Reason.INVALID_PROJECT.conclusion, Reason.INVALID_PROJECT, mask(str(error)))
        ground = self._settled(limits)
        attempt = Attempt(job.id, job.fence, slot)
        if not self.is_free(slot):
            raise EngineFault(Reason.RUNTIME_UNAVAILABLE, f"a container of an older job still runs in slot {slot}")
        self._in_slot[slot] = attempt.name
        with ground.budget.share(Share.of(limits, ground.house), watch.stopped) as waited_s:
            keep = Keeping(self._wish.kept, self._wish.kept_s) if request.keep_sandbox and self._wish.kept else None
            planned, shares = _noting(plan, waited_s), _may_share(request)
            order = Order(planned, blocks, request.env, attempt, limits, shares, keep, job.tenant)
            return self._run(ground, order, job, request, watch, mask)

    def _run(self, ground: Ground, order: Order, job: Job, request: Request, watch: Watch, mask: Masker) -> Result:
        remarks = Remarks(watch.output)
        with contextlib.closing(Log(order.limits, job.log_lines, remarks.output, mask)) as log:
            if request.call and request.call.makes_version:
                return _packed(ground, order, log, watch, mask)
            result = Run(ground, order, log, watch, mask).result()
        return replace(result, detail={**result.detail, **remarks.told()})

    def has_room(self, limits: Limits) -> bool:
        """True if a job with these limits would not have to wait for others of this worker to end."""
        ground = self._ground
        return not ground or ground.budget.has_room(Share.of(limits, ground.house))

    def is_free(self, slot: int) -> bool:
        """False while a container that the engine could not remove keeps the slot's user; it is tried again here."""
        return self._engine.unstick(self._in_slot.get(slot, ""))

    def _settled(self, limits: Limits) -> Ground:
        """What all runs stand on, decided when the engine is first needed. Raises EngineFault."""
        with self._lock:
            if self._ground is None:
                common = house.settle(self._engine, self._wish, limits)
                egress = Egress(self._engine, self._images, self._rules, self._service, common)
                cellar = Cellar(self._engine, self._images, self._service, common, self._larder)
                trees, parcels = Trees(cellar), Parcels(cellar, self._tally)
                lot = Lot(self._engine, self._images, self._service, common, cellar.mounts())
                sites = Parking(lot, tuple(IMAGES_OF_JOBS[name] for name in self._wish.parked))
                budget = Budget(house.whole(self._engine, self._wish, limits))
                self._ground = Ground(
                    self._engine, self._images, egress, common, self._tally, cellar, trees, parcels, sites, budget
                )
            return self._ground

    def prepare(self) -> list[str]:
        """Make sure that all job images are there; answer their references.

        Raises:
            ImageUnavailable: One can be neither pulled nor built; the text says what to do.
            EngineFault: The engine does not answer.
        """
        return [self._images.ensure(self._engine.client, name) for name in IMAGE_NAMES]

    def park(self, limits: Limits) -> None:
        """Have a sandbox wait in each slot, for jobs with these limits. Raises EngineFault: it does not answer."""
        self._settled(limits).parking.begin(self._wish.slots, limits)

    def unpark(self) -> None:
        """Remove the sandboxes that wait; none wait from now on."""
        if self._ground:
            self._ground.parking.close()

    @property
    def parked(self) -> int:
        """How many sandboxes wait."""
        return self._ground.parking.waiting if self._ground else 0

    def job_images(self) -> tuple[str, ...]:
        """The images that jobs run in; each name is a hash of all that goes into it. Raises as prepare()."""
        if not self._job_images:
            self._job_images = tuple(self._images.ensure(self._engine.client, name) for name in (NODE, PYTHON))
        return self._job_images

    def base(self) -> str:
        """The image that others can be built on: Debian with Python, trusting whom this machine trusts.

        Raises: as prepare().
        """
        return self._images.ensure(self._engine.client, PYTHON)

    def remarks(self, limits: Limits) -> list[Remark]:
        """What the engine and its machine lack, check by check. Raises EngineFault: it does not answer."""
        self._settled(limits)  # bounds the common group, where that can be done
        return list(survey.remarks(survey.taking(self._engine, self._images, self._wish, limits)))

    def sweep(self, is_live: Callable[[str, int], bool]) -> list[str]:
        """Remove this service's containers whose (job, attempt) is not live, with their volumes; answer the names.

        A container that waits for its job goes when its worker is gone.

        Raises:
            EngineFault: The engine does not answer.
        """
        if self._ground:
            self._ground.cellar.sweep()
        now = time.time()

        def is_doomed(found: dict[str, Any]) -> bool:
            owner = spec.owner(found["Names"][0].lstrip("/"))
            return not is_live(*owner) if owner else parking.is_lost(found, now)

        removed = self._engine.remove(is_doomed, service=self._service)
        return removed + self._engine.remove_strays(self._service)

    def close(self) -> None:
        """End the proxy of the installs and what waits, and give the engine's connections back."""
        with self._lock:
            if self._ground:
                self._ground.parking.close()
                self._ground.egress.close()
            self._ground = None
        self._engine.close()


def _may_share(request: Request) -> bool:
    """Whether the job may use, and fill, installed dependencies that jobs share."""
    if not request.use_cache or request.binary.keys() & {*dependencies.INPUTS, *installers.LOCKFILES}:
        return False
    if JobType.ANALYZE in (request.steps or (request.type,)):
        return False  # its install asks the registry what is newer, too
    return not (request.call and request.call.makes_version)  # a version is packed with what it needs


def _noting(plan: Plan, waited_s: float) -> Plan:
    """The plan, saying in the job's log how long it waited for room, if it did."""
    if waited_s < NOTED_WAIT_S:
        return plan
    return replace(plan, notes=(*plan.notes, f"waited {waited_s:.1f} s for memory and processors that other jobs used"))


def _packed(ground: Ground, order: Order, log: Log, watch: Watch, mask: Masker) -> Result:
    """Run, and hand the tree that is left over as one file, if the run ended well."""
    with Packing(watch) as packing:
        result = Run(ground, order, log, packing, mask).result()
        tree = (packing.hand_over(),) if result.conclusion is Conclusion.SUCCESS else ()
    return replace(result, artifacts=tree)
