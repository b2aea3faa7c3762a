"""What a run says is written in order, all of it, beside the run; what goes wrong is heard."""

from __future__ import annotations

import threading

import pytest

from journal import BOUND, Journal


def test_in_order_and_whole() -> None:
    """Everything is written in order by the end of the block, however much it is."""
    written: list[int] = []
    with Journal(lambda: False, "job-1") as journal:
        for number in range(BOUND * 3):
            journal.put(lambda number=number: written.append(number))  # type: ignore[misc]

    assert written == list(range(BOUND * 3))


class Slow:
    """A write that takes until it may go."""

    def __init__(self) -> None:
        self.may_go = threading.Event()

    def write(self) -> None:
        self.may_go.wait(10)


def nothing() -> None:
    """A write that is done at once."""


def fail() -> None:
    raise OSError("no room")


def test_the_run_goes_on() -> None:
    """A write that takes its time holds nobody up, until too many are due."""
    slow = Slow()
    with Journal(lambda: False, "job-1") as journal:
        for _ in range(BOUND):
            journal.put(slow.write)
        slow.may_go.set()


def test_held_back() -> None:
    """A run that says more than can be written waits, and is let go once it is to stop."""

    def say_much() -> None:
        for _ in range(BOUND * 2):
            journal.put(nothing)

    slow, stopped, run = Slow(), threading.Event(), threading.Thread(target=say_much)
    with Journal(stopped.is_set, "job-1") as journal:
        journal.put(slow.write)
        run.start()
        run.join(0.3)
        assert run.is_alive()
        stopped.set()
        run.join(5)
        assert not run.is_alive()
        slow.may_go.set()


def test_a_write_that_fails() -> None:
    """The end of the block raises it; nothing is written after it."""
    written: list[str] = []

    def say() -> None:
        with Journal(lambda: False, "job-1") as journal:
            journal.put(fail)
            journal.put(lambda: written.append("late"))

    with pytest.raises(OSError, match="no room"):
        say()
    assert written == []


def test_a_run_hears_of_it() -> None:
    """So does the next word of a run that goes on."""

    def say() -> None:
        with Journal(lambda: False, "job-1") as journal:
            journal.put(fail)
            while True:
                journal.put(nothing)

    with pytest.raises(OSError, match="no room"):
        say()


def test_an_end_that_comes_first() -> None:
    """What the block raises is what is heard."""

    def say() -> None:
        with Journal(lambda: False, "job-1") as journal:
            journal.put(fail)
            raise KeyError

    with pytest.raises(KeyError):
        say()
