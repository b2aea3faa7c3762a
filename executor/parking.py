"""Sites that wait for their job: a workspace, its keeper and a shell, started already. Each serves one run, never two.

A job that finds none gets one that is made at once, by the same code. What waits has an empty workspace and no order
yet. It ends by itself when the worker that made it does, because its standard input ends; a sweep removes it then.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from errors import EngineFault
from executor import keeper, spec
from executor.images import PYTHON, Images
from executor.sandbox import Engine, Guard, Sandbox, translated
from jobs import Limits, Reason

log = logging.getLogger(__name__)

#: What is made for nobody yet has no end but its own; each call to the engine has a deadline.
UNGUARDED = Guard(lambda: False, ())
#: Made or removed beside the jobs at a time.
THREADS = 2
#: A container is started right after it was made, by calls that end within ten seconds; after so long, it will not be.
UNSTARTED_S = 30
#: So long after its first order a job shares the engine with the making of the next site; many have ended by then.
REFILL_AFTER_S = 0.3


@dataclass(frozen=True, slots=True)
class Attempt:
    """Whose run it is: the job, which attempt of it, and in which slot."""

    job_id: str
    fence: int
    slot: int

    @property
    def name(self) -> str:
        """What the containers of its code are called, with a number behind."""
        return spec.attempt_name(self.job_id, self.fence)


@dataclass(frozen=True, slots=True)
class Lot:
    """What all sites have in common. `mounts` are what every shell sees beside its workspace."""

    engine: Engine
    images: Images
    service: str
    house: spec.House
    mounts: tuple[spec.Mount, ...] = ()


@dataclass
class Site:
    """Where one run takes place. Its containers are called `name` with a number behind; of the code in `shells` one
    has to fear that it runs on.
    """

    lot: Lot
    tenancy: spec.Tenancy
    limits: Limits
    image: str
    name: str
    boxes: list[Sandbox] = field(default_factory=list)
    shells: list[Sandbox] = field(default_factory=list)
    keeper: Sandbox = field(init=False)
    #: Whether it waited for its job.
    parked: bool = False
    #: Whether its workspace stays when it is cleared.
    kept: bool = False
    #: Hears, once, that others may have the machine's time: some way into the first order, or at the end.
    when_busy: Callable[[], None] | None = None
    #: What of ours is still to be done with the workspace once the job has ended; it may raise EngineFault.
    afterwards: Callable[[], None] = lambda: None
    _ordered_at: float = math.inf
    _waiting: Sandbox | None = None

    def open(self, python: str) -> None:
        """Make the workspace, and start the keeper and a shell. Raises EngineFault."""
        lot, options = self.lot, spec.volume(self.tenancy, self.limits, self.lot.house)
        with translated("create volume", Reason.STORAGE_FAILED):
            lot.engine.api.create_volume(self.tenancy.volume, driver_opts=options, labels=self.tenancy.labels)
        self.keeper = self.sandbox(keeper.step(python, lot.house))
        self._waiting = self.sandbox(self._shell("none"))
        for box in self.boxes:
            box.__enter__()
            box.start([], UNGUARDED)
        self._waiting.pid()

    def is_open(self) -> bool:
        """False if something of it is gone; only to be asked before it is used."""
        return all(box.is_open() for box in self.boxes)

    def adopt(self, name: str) -> None:
        """Call the shell, and what is still to be made, by the name of its attempt. Raises EngineFault.

        Before it gets an order: whoever finds it must know whose code it runs. The keeper needs no name, because it
        ends with the connection.
        """
        self.name = name
        if self._waiting:
            self._waiting.rename(f"{name}-{len(self.boxes)}")

    def sandbox(self, step: spec.Step) -> Sandbox:
        """One more container here, not made yet."""
        settings = spec.container(step, self.tenancy, self.limits, self.lot.house)
        self.boxes.append(Sandbox(self.lot.engine, settings, f"{self.name}-{len(self.boxes) + 1}"))
        return self.boxes[-1]

    def shell(self, network: str) -> Sandbox:
        """A shell for one order: the one that is there, if it has this network, or one that is still to be started."""
        found, self._waiting = (self._waiting, None) if network == "none" else (None, self._waiting)
        self.shells.append(found or self.sandbox(self._shell(network)))
        return self.shells[-1]

    def ordered(self) -> None:
        """The first order is given."""
        self._ordered_at = min(self._ordered_at, time.monotonic())

    def watch(self) -> None:
        """To be called again and again while an order is carried out."""
        if time.monotonic() - self._ordered_at > REFILL_AFTER_S:
            self.busy()

    def busy(self) -> None:
        """Others may have the machine's time now."""
        told, self.when_busy = self.when_busy, None
        if told:
            told()

    def keep(self, seconds: int, most: int) -> str:
        """Have the workspace stay so long, held by a container that this answers the name of; it can be entered.

        Of more than `most` the oldest goes. Raises EngineFault.
        """
        engine, name = self.lot.engine, f"{spec.KEPT}{self.name.removeprefix('cw-')}-1"
        mine = {"name": spec.KEPT, "label": f"{spec.LABEL}.service={self.lot.service}"}
        with translated("list containers"):
            held = engine.api.containers(filters=mine)
        gone = {found["Id"] for found in sorted(held, key=lambda found: -found["Created"])[most - 1 :]}
        engine.remove(lambda found: found["Id"] in gone, spec.KEPT)
        step = spec.Step(self.image, ("/bin/sleep", str(seconds)), mounts=self.lot.mounts)
        box = Sandbox(engine, spec.container(step, self.tenancy, self.limits, self.lot.house), name)
        with box:
            box.start([], UNGUARDED)
        self.kept = True
        return name

    @property
    def is_quiet(self) -> bool:
        """True if the engine has said of each shell that it ended."""
        return all(shell.has_ended for shell in self.shells)

    def clear(self) -> None:
        """Remove all that there is of it. Raises EngineFault."""
        names, workspaces = (f"{self.tenancy.volume}-", f"{self.name}-"), not self.kept
        self.lot.engine.remove(
            lambda found: found["Names"][0].lstrip("/").startswith(names), *names, workspaces=workspaces
        )

    def _shell(self, network: str) -> spec.Step:
        return spec.shell(self.image, network=network, mounts=self.lot.mounts)


class Parking:
    """The sites of one engine that wait: at most one for each slot and each of the images that are `kept`."""

    def __init__(self, lot: Lot, kept: tuple[str, ...]) -> None:
        """Nothing waits before begin()."""
        self._lot = lot
        self._kept = kept
        self._usual: Limits | None = None
        self._waiting: dict[tuple[int, str], Future[Site]] = {}
        self._lock = threading.Lock()
        self._work = ThreadPoolExecutor(THREADS, thread_name_prefix="parking")

    def begin(self, slots: int, usual: Limits) -> None:
        """Have one wait for each slot, of the images that are there, for jobs with these limits. Raises EngineFault.

        Where an image is not there yet, one waits after the first job that needed it.
        """
        self._usual = usual
        with translated("look for images"):
            there = [name for name in self._kept if self._lot.images.is_there(self._lot.engine.client, name)]
        for slot in range(slots):
            for name in there:
                self._park(slot, name)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        with self._lock:
            return sum(1 for future in self._waiting.values() if future.done() and not future.exception())

    @contextlib.contextmanager
    def site(self, attempt: Attempt, image: str, limits: Limits) -> Iterator[Site]:
        """A site for one attempt; what an older one of the job left goes before.

        Afterwards no code of the job runs any more. The containers and the workspace are gone, or go at once.

        Raises:
            ImageUnavailable: It is not there, and cannot be had.
            EngineFault: The engine failed.
        """
        if attempt.fence > 1:
            self._remove_older(attempt)
        site = self._taken(attempt.slot, image, limits) or self._made(attempt.slot, image, limits)
        site.when_busy = functools.partial(self._park, attempt.slot, image)
        try:
            site.adopt(attempt.name)
            yield site
        finally:
            site.busy()
            if site.is_quiet:
                self._later(site, site.afterwards)
            else:
                self._clear(site)

    def close(self) -> None:
        """Remove what waits, and wait for what is being removed."""
        with self._lock:
            waiting, self._waiting, self._kept = self._waiting, {}, ()
        for future in waiting.values():
            if not future.cancel():
                future.add_done_callback(self._dismiss)
        self._work.shutdown(wait=True)

    def _dismiss(self, future: Future[Site]) -> None:
        if not future.exception():
            self._clear(future.result())

    def _taken(self, slot: int, image: str, limits: Limits) -> Site | None:
        """The one that waits, if it is as the job needs it."""
        if image not in self._kept or not self._usual or self._settings(limits) != self._settings(self._usual):
            return None
        with self._lock:
            future = self._waiting.pop((slot, image), None)
        if future is None or future.cancel():
            return None
        if future.exception():
            log.warning("no site waits", extra={"error": str(future.exception())})
            return None
        site = future.result()
        if site.is_open():
            site.parked = True
            return site
        self._later(site)
        return None

    def _park(self, slot: int, image: str) -> None:
        with self._lock:
            # Nothing is kept any more once close() has begun. One that could not be made is made anew.
            there = self._waiting.get((slot, image))
            if self._usual and image in self._kept and (there is None or (there.done() and there.exception())):
                self._waiting[slot, image] = self._work.submit(self._made, slot, image, self._usual)

    def _made(self, slot: int, image: str, limits: Limits) -> Site:
        lot = self._lot
        reference, python = (lot.images.ensure(lot.engine.client, name) for name in (image, PYTHON))
        tenancy = spec.Tenancy(lot.service, slot, f"{spec.PARKED}{secrets.token_hex(8)}")
        site = Site(lot, tenancy, limits, reference, tenancy.volume)
        try:
            site.open(python)
        except BaseException:
            self._clear(site)
            raise
        return site

    def _later(self, site: Site, before: Callable[[], None] = lambda: None) -> None:
        """Remove a site beside the jobs, after something else; or now, and alone, if this is the end."""
        try:
            self._work.submit(self._finish, site, before)
        except RuntimeError:
            self._clear(site)

    def _finish(self, site: Site, before: Callable[[], None]) -> None:
        try:
            before()
        except EngineFault as error:
            log.warning("not done after the job", extra={"site": site.name, "error": str(error)})
        finally:
            self._clear(site)

    def _clear(self, site: Site) -> None:
        """Remove a site; what cannot be removed now is left to a sweep."""
        for box in site.boxes:
            box.close()
        try:
            site.clear()
        except EngineFault as error:
            log.warning("not removed", extra={"site": site.name, "error": str(error)})

    def _remove_older(self, attempt: Attempt) -> None:
        def is_older(found: dict[str, Any]) -> bool:
            job_id, fence = spec.owner(found["Names"][0].lstrip("/")) or ("", 0)
            return job_id == attempt.job_id and fence < attempt.fence

        self._lot.engine.remove(is_older, attempt.job_id)

    def _settings(self, limits: Limits) -> tuple[Any, Any]:
        """What limits come to in a site; of those that wait and those that do not it is to be the same."""
        tenancy, house = spec.Tenancy("", 0, ""), self._lot.house
        return spec.container(spec.shell("", network="none"), tenancy, limits, house), spec.volume(
            tenancy, limits, house
        )


def is_lost(found: dict[str, Any], now: float) -> bool:
    """True for a container of no job, as the engine lists it, whose worker is gone or whose time is over."""
    if found["State"] in {"exited", "dead"}:
        return True
    return bool(found["State"] == "created" and now - found["Created"] > UNSTARTED_S)
