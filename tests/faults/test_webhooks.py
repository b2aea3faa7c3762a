"""A receiver that is down for hours while workers die: every end arrives, has one effect, and delays nobody else."""

from __future__ import annotations

import pytest

from tests.faults.receivers import Size, receiver_away

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]


def test_six_hours_without_a_receiver() -> None:
    """Down for six hours of a faster clock, with workers killed all the time: every end arrives at both receivers.

    The same id stands for the same content at every try, and has one effect; the receiver that is up waits for nothing.
    """
    # The second is for make chaos to measure: here the machine has other tests to run, and the outage takes 18 s.
    outcome = receiver_away(Size(jobs=150, clock=1_200, kill_every_s=5, p95_ms=9_000))

    assert outcome.failed <= 1  # one that three killed workers had in turn
    print(outcome.load, outcome.note, sep="\n")
