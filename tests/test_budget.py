"""Shares of a worker's memory and processors: what fits runs, what does not waits its turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from errors import RunStopped
from executor.budget import Budget, Share
from executor.spec import House
from tests.engine_cases import LIMITS

SMALL, LARGE = (100, 1.0), (250, 1.0)


class Holder(threading.Thread):
    """Asks for a share and holds it until it is told to let go."""

    def __init__(self, budget: Budget, size: tuple[int, float]) -> None:
        super().__init__(daemon=True)
        self._budget, self._share = budget, Share(*size)
        self.holds, self.let_go, self.stop = (threading.Event() for _ in range(3))
        self.stopped = False
        self.start()

    def run(self) -> None:
        try:
            with self._budget.share(self._share, self.stop.is_set):
                self.holds.set()
                self.let_go.wait(10)
        except RunStopped:
            self.stopped = True


@pytest.fixture
def budget() -> Budget:
    return Budget(Share(300, 3.0))


def holder(budget: Budget, size: tuple[int, float], *, holds: bool) -> Holder:
    """One that holds its share now, or has been seen to wait for it."""
    made = Holder(budget, size)
    if holds:
        assert made.holds.wait(5)
    else:
        until(lambda: any(share is made._share for share in budget._line))
    return made


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_fits(budget: Budget) -> None:
    """As many at a time as fit, by memory and by processors."""
    with ExitStack() as held:
        for _ in range(2):
            assert held.enter_context(budget.share(Share(*SMALL), lambda: False)) < 1
        assert budget.has_room(Share(100, 1.0))
        assert not budget.has_room(Share(101, 1.0))
        assert not budget.has_room(Share(1, 1.1))
    assert budget.has_room(Share(300, 3.0))


def test_in_order(budget: Budget) -> None:
    """A large one that waits is not passed over by small ones that would fit, and both get theirs."""
    first = holder(budget, SMALL, holds=True)
    large = holder(budget, LARGE, holds=False)
    small = holder(budget, SMALL, holds=False)
    assert not budget.has_room(Share(*SMALL))

    first.let_go.set()
    assert large.holds.wait(5)
    assert not small.holds.is_set()
    large.let_go.set()
    assert small.holds.wait(5)
    small.let_go.set()
    small.join(5)
    assert budget.has_room(Share(300, 3.0))


def test_larger_than_all(budget: Budget) -> None:
    """One that never fits runs alone."""
    first = holder(budget, SMALL, holds=True)
    huge = holder(budget, (1000, 9.0), holds=False)

    first.let_go.set()
    assert huge.holds.wait(5)
    assert not budget.has_room(Share(1, 0.1))
    huge.let_go.set()


def test_one_that_is_stopped(budget: Budget) -> None:
    """One that is stopped while it waits leaves the line to the one behind it, though they want the same."""
    first = holder(budget, LARGE, holds=True)
    gone, behind = holder(budget, LARGE, holds=False), holder(budget, LARGE, holds=False)

    gone.stop.set()
    gone.join(5)
    assert gone.stopped
    first.let_go.set()
    assert behind.holds.wait(5)
    behind.let_go.set()


@pytest.mark.parametrize(("in_memory", "memory"), [(False, 100), (True, 140)])
def test_what_a_job_comes_to(in_memory: bool, memory: int) -> None:
    """A workspace in memory counts as well."""
    share = Share.of(replace(LIMITS, memory_bytes=100, disk_bytes=40, cpus=1.5), House(in_memory=in_memory))

    assert (share.memory_bytes, share.cpus) == (memory, 1.5)
