"""What a worker process does beside its jobs: show that it lives, let happen what is due, remove what is old."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from artifacts import Shelf
from errors import EngineFault, JobNotFound, MoveRefused, StorageFailed, StoreUnavailable
from executor import Remark
from metrics import Tally
from store import Retention, Store

log = logging.getLogger(__name__)

STEP = 100
REPORT_S = 2.0


class Recurring:
    """Does one thing again and again, from a thread of its own, whatever becomes of it."""

    def __init__(self, name: str, work: Callable[[], None], every_s: float) -> None:
        """Nothing runs before start()."""
        self._name = name
        self._work = work
        self._every_s = every_s
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; does nothing if it was begun already."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self) -> None:
        """End, after what is being done."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._work()
            except StoreUnavailable as error:
                log.warning("no %s: %s", self._name, error)
            except Exception:
                log.exception("the %s failed", self._name)
            if self._stopping.wait(self._every_s):
                return


class Pulse:
    """Every few seconds, from a thread of its own: this worker lives, hands in its figures, and what is due happens.

    Waiting workers do the latter as they ask for jobs; when all are busy, nobody else would.
    """

    def __init__(
        self, store: Store, worker: str, slots: int, every_s: float, tally: Tally, facts: Callable[[], dict[str, Any]]
    ) -> None:
        """`facts` is what the worker says of itself at each beat. Nothing runs before start()."""
        self._store = store
        self._worker = worker
        self._slots = slots
        self._tally = tally
        self._facts = facts
        #: Whether this worker is to take no more jobs, as it heard at its last beat.
        self.drained = False
        self._beats = Recurring("heartbeat", self._beat, every_s)
        self.start = self._beats.start

    def stop(self) -> None:
        """End, and say that this worker is gone."""
        self._beats.stop()
        with suppress(StoreUnavailable):  # its heartbeat runs out by itself
            hand_in(self._store, self._tally)
            self._store.worker_gone(self._worker)

    def _beat(self) -> None:
        self.drained = self._store.heartbeat(self._worker, self._slots, self._facts())
        self._store.tick()
        hand_in(self._store, self._tally)


class Footing:
    """What the Docker Engine and its machine lack: asked once it answers, told in the log and in health."""

    def __init__(self, ask: Callable[[], list[Remark]]) -> None:
        """`ask` may raise EngineFault; nothing is asked before look()."""
        self._ask = ask
        self._asking = threading.Lock()
        self._known = False
        #: "warn" or "fail", and a sentence.
        self.lacks: list[tuple[str, str]] = []

    def look(self) -> None:
        """Ask, unless it is known or being asked already."""
        if not self._known and self._asking.acquire(blocking=False):
            try:
                lacking = [remark for remark in self._ask() if remark.state != "ok"]
            except EngineFault as fault:
                log.warning("what the engine lacks is not known: %s", fault)
            else:
                self._known, self.lacks = True, [(remark.state, remark.sentence) for remark in lacking]
                for remark in lacking:
                    log.warning("%s %s", remark.sentence, remark.fix)
            finally:
                self._asking.release()


def reporter(store: Store, tally: Tally) -> Recurring:
    """Hands in what a process counts, again and again."""

    def report() -> None:
        with suppress(StoreUnavailable):  # those who ask are told; the figures are kept for later
            hand_in(store, tally)

    return Recurring("report", report, REPORT_S)


def hand_in(store: Store, tally: Tally) -> None:
    """Add what was counted to the figures; it is kept for the next time if Redis is away. Raises StoreUnavailable."""
    if taken := tally.taken():
        try:
            store.add_figures(taken)
        except StoreUnavailable:
            tally.give_back(taken)
            raise


def prune(store: Store, shelf: Shelf, retention: Retention) -> int:
    """Remove up to a hundred finished jobs that retention does not keep, each with its files; how many went.

    Files first: what is interrupted between the two is found again by its record.
    """
    removed = 0
    for job_id in store.prunable(retention, STEP):
        try:
            shelf.remove(job_id)
            store.remove(job_id)
        except (JobNotFound, MoveRefused):  # another process was quicker
            continue
        except StorageFailed as error:
            log.warning("%s not removed: %s", job_id, error)
            continue
        removed += 1
    return removed
