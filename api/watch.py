"""The one reader in each process of what happens to jobs: it wakes who waits for an end, and tells who looks on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from errors import ChefError, StoreUnavailable
from jobs import Job
from store import Happening, Store

log = logging.getLogger(__name__)

#: How long one read blocks (s): a stop is noticed within that time.
BLOCK_S = 1.0
#: Pause after a read that failed (s).
REST_S = 0.5


class Crowded(ChefError):
    """As many callers as may be wait, or look on."""

    code = "crowded"


class Watch:
    """Waits for jobs to end. A wait holds no connection to Redis; the reader has one for all of them."""

    def __init__(self, store: Store, max_waiting: int) -> None:
        """Nothing is read before start() or the first wait."""
        self._store = store
        self._places = threading.BoundedSemaphore(max_waiting)
        self._waiting: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._place = (0, 0)
        self._stopping = False
        #: Is told everything that happens, in order; called from the reader's thread.
        self.onlooker: Callable[[list[Happening]], None] = lambda happenings: None

    def start(self) -> None:
        """Read from now on; does nothing if it was begun. Raises StoreUnavailable."""
        with self._lock:
            if self._reader is None:
                self._place = self._store.newest_happening()
                self._reader = threading.Thread(target=self._read, name="watch", daemon=True)
                self._reader.start()

    def stop(self) -> None:
        """Let those who wait go on, within BLOCK_S, and end. May be called from a signal handler."""
        self._stopping = True

    @contextlib.contextmanager
    def place(self, seconds: int) -> Iterator[None]:
        """A place among those who wait, if this is a wait at all. Raises Crowded."""
        if not seconds:
            yield
            return
        if not self._places.acquire(blocking=False):
            raise Crowded("As many requests wait for jobs as may do so at once. Ask without waiting, or again soon.")
        try:
            yield
        finally:
            self._places.release()

    def end_of(self, job_id: str, seconds: float) -> Job:
        """The job once it has ended, or as it is after `seconds`. Wants a place. Raises JobNotFound."""
        self.start()
        woken = threading.Event()
        with self._lock:
            self._waiting[job_id].add(woken)
        try:
            job = self._store.get(job_id)
            if job.status.is_final or self._stopping or not woken.wait(seconds):
                return job if job.status.is_final else self._store.get(job_id)
            return self._store.get(job_id)
        finally:
            self._forget(job_id, woken)

    def _forget(self, job_id: str, woken: threading.Event) -> None:
        with self._lock:
            self._waiting[job_id].discard(woken)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _read(self) -> None:
        rest = threading.Event()
        while not self._stopping:
            try:
                happenings = self._store.wait_for_happenings(self._place, BLOCK_S)
            except StoreUnavailable as error:
                log.warning("what happens to jobs is not known: %s", error)
                rest.wait(REST_S)
                continue
            if happenings:
                self._place = happenings[-1].id
                self._wake({each.job_id for each in happenings if each.is_end})
                self.onlooker(happenings)
        self._wake(None)

    def _wake(self, ended: set[str] | None) -> None:
        """Those who wait for one of these jobs; None: for any."""
        with self._lock:
            chosen = self._waiting.keys() if ended is None else ended & self._waiting.keys()
            for job_id in chosen:
                for woken in self._waiting[job_id]:
                    woken.set()
