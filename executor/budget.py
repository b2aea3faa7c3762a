"""What the jobs of a worker may use of the machine together: a job begins once its memory and processors are free."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from errors import RunStopped
from executor.spec import House
from jobs import Limits

#: How often somebody who waits asks whether the run is to stop.
ASK_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)  # each is its own, however large
class Share:
    """What a job, or all of them, may use: bytes of memory, and processors."""

    memory_bytes: int
    cpus: float

    @classmethod
    def of(cls, limits: Limits, house: House) -> Share:
        """What a job with these limits may come to."""
        return cls(limits.memory_bytes + (limits.disk_bytes if house.in_memory else 0), limits.cpus)


class Budget:
    """Hands out shares of a whole, in the order in which they are asked for, so that a large one is not passed over.

    One that is larger than the whole gets all of it, alone.
    """

    def __init__(self, whole: Share) -> None:
        """Nothing is handed out yet."""
        self._whole = whole
        self._given: list[Share] = []
        self._line: deque[Share] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def share(self, share: Share, stopped: Callable[[], bool]) -> Iterator[float]:
        """Hold a share; gives the seconds that it took to get. Raises RunStopped if `stopped()` says so meanwhile."""
        began = time.monotonic()
        with self._changed:
            self._line.append(share)
            try:
                while self._line[0] is not share or not self._fits(share):
                    if stopped():
                        raise RunStopped("stopped while it waited for room")
                    self._changed.wait(ASK_S)
                self._given.append(share)
            finally:
                self._line.remove(share)
                self._changed.notify_all()
        try:
            yield time.monotonic() - began
        finally:
            with self._changed:
                self._given.remove(share)
                self._changed.notify_all()

    def has_room(self, share: Share) -> bool:
        """True if somebody who asked for it now would not wait."""
        with self._changed:
            return not self._line and self._fits(share)

    def _fits(self, share: Share) -> bool:
        memory = sum(each.memory_bytes for each in self._given) + share.memory_bytes
        cpus = sum(each.cpus for each in self._given) + share.cpus
        return not self._given or (memory <= self._whole.memory_bytes and cpus <= self._whole.cpus)
