"""What a run says, written in order and beside it: the run waits for a write only if many are due already."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType

#: Writes that may be due at a time; a run that says more is held back.
BOUND = 64
ASK_S = 0.1

Write = Callable[[], None]


class Journal:
    """Does one write after the other from a thread of its own, for as long as the `with` block lasts.

    At the end of the block all are done. What a write raises ends the run that is told to say more.
    """

    def __init__(self, stopped: Callable[[], bool], name: str) -> None:
        """Once `stopped()`, what the run says counts no more. `name` is the job's id, for the thread."""
        self._stopped = stopped
        self._due: queue.Queue[Write | None] = queue.Queue(BOUND)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"journal {name}", daemon=True)

    def __enter__(self) -> Journal:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is written. Raises what a write raised, unless the block did."""
        self._due.put(None)
        self._thread.join()
        if kind is None and self._fault:
            raise self._fault

    def put(self, write: Write) -> None:
        """Have this done after all before it. Raises what one of them raised."""
        while not self._stopped():
            if self._fault:
                raise self._fault
            with contextlib.suppress(queue.Full):
                self._due.put(write, timeout=ASK_S)
                return

    def _work(self) -> None:
        while write := self._due.get():
            try:
                if not self._fault:
                    write()
            except BaseException as fault:  # noqa: BLE001  (it is raised where the run can hear it)
                self._fault = fault
