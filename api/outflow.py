"""A bound on answers that take long to send: each holds a thread for as long as its reader likes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from errors import ChefError

RETRY_S = 5


class Busy(ChefError):
    """So many downloads are under way that another one would take the threads of everybody else."""

    code = "busy"

    def __init__(self) -> None:
        """Say when to come back (seconds)."""
        self.retry_after_s = RETRY_S
        super().__init__("Too many downloads are under way; try again soon.")


class Streams:
    """Places for bodies that are sent piece by piece."""

    def __init__(self, at_once: int) -> None:
        """In this process."""
        self._places = threading.BoundedSemaphore(at_once)

    def hold(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """`body`, which has a place until it is sent or closed. Raises Busy, and then has closed `body`."""
        if not self._places.acquire(blocking=False):
            _close(body)
            raise Busy
        return _Held(body, self._places)


#: Logs, files and archives on their way in this process; with all of them, half of gunicorn's threads are free.
downloads = Streams(32)


class _Held:
    def __init__(self, body: Iterable[bytes], places: threading.Semaphore) -> None:
        self._body = body
        self._places: threading.Semaphore | None = places

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        finally:
            self.close()

    def close(self) -> None:
        """Give the place back, once."""
        places, self._places = self._places, None
        if places:
            _close(self._body)
            places.release()


def _close(body: Iterable[bytes]) -> None:
    if close := getattr(body, "close", None):
        close()
