"""The right to run one attempt of a job: renewed while the run lasts, and the one place that says why it must stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType

from errors import LeaseLost, StoreUnavailable

log = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why a run must stop before its end."""

    CANCELLED = "cancelled"
    LOST = "lost"
    SHUTDOWN = "shutdown"


class Lease:
    """Renews a lease from its own thread for as long as the `with` block lasts.

    `beat` renews it and answers True once the job's cancellation is asked for. `give_up_s` seconds after the last
    renewal that was answered the lease counts as lost, even while a call still waits for its answer: the store gives
    the job to another worker only later, so the two never run at the same time.
    """

    def __init__(self, beat: Callable[[], bool], *, every_s: float, give_up_s: float, name: str) -> None:
        """Nothing happens before the block is entered. `name` is the job's id, for the log."""
        self._beat = beat
        self._every_s = every_s
        self._give_up_s = give_up_s
        self._name = name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self.stop_reason: Stop | None = None

    def __enter__(self) -> Lease:
        """Start renewing; the claim itself was the first renewal."""
        self._renewed_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop renewing."""
        self._ended.set()
        self._thread.join()

    def stop(self, reason: Stop) -> None:
        """Tell the run to stop; the first reason stays."""
        self.stop_reason = self.stop_reason or reason

    @property
    def stopped(self) -> bool:
        """True once the run must stop; `stop_reason` says why."""
        if self._silent_s() > self._give_up_s:
            self.stop(Stop.LOST)
        return self.stop_reason is not None

    def _renew(self) -> None:
        while not self._ended.wait(self._every_s):
            asked_at = time.monotonic()  # the lease runs from some moment between the question and its answer
            try:
                if self._beat():
                    self.stop(Stop.CANCELLED)
                self._renewed_at = asked_at
            except LeaseLost:
                self.stop(Stop.LOST)
                return
            except StoreUnavailable as error:
                # Nothing is known, so go on until the lease may have run out for the others.
                log.warning("%s: lease not renewed for %.1f s: %s", self._name, self._silent_s(), error)

    def _silent_s(self) -> float:
        return time.monotonic() - self._renewed_at
