"""Writing to a store that is away for a while."""

from __future__ import annotations

import pytest

import tasks
from errors import LeaseLost, StoreUnavailable


def test_written_after_an_outage() -> None:
    """A write is tried again until it succeeds, and says so."""
    answers = iter([StoreUnavailable("away"), None])

    def write() -> None:
        if error := next(answers):
            raise error

    assert tasks.persist(write, lambda: False)


def test_given_up() -> None:
    """A write that was given up says so: nobody may take it for done."""
    asked = iter([False, True, True])

    def write() -> None:
        raise StoreUnavailable("away")

    assert not tasks.persist(write, lambda: next(asked))


def test_lost_lease_is_told() -> None:
    """A stale run's write is not tried again."""

    def write() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        tasks.persist(write, lambda: False)
