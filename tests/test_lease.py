"""The lease of a running attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from errors import LeaseLost, StoreUnavailable
from lease import Lease, Stop


def held(beat: Callable[[], bool], give_up_s: float = 60.0) -> Lease:
    """A lease that is renewed every few milliseconds."""
    return Lease(beat, every_s=0.005, give_up_s=give_up_s, name="job")


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `condition` holds, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.002)


def test_renewed_while_held_and_not_after() -> None:
    """Renewals go on during the block and end with it."""
    beats: list[float] = []

    def beat() -> bool:
        beats.append(time.monotonic())
        return False

    with held(beat) as lease:
        wait_for(lambda: len(beats) >= 3)

        assert not lease.stopped
    assert not [thread for thread in threading.enumerate() if thread.name == "lease job"]


def test_cancellation_is_heard() -> None:
    """A renewal that answers `cancel` stops the run as cancelled, and the lease is still renewed meanwhile."""
    beats = iter(range(1000))

    with held(lambda: next(beats) >= 1) as lease:
        wait_for(lambda: lease.stopped)

        assert lease.stop_reason is Stop.CANCELLED
        seen = next(beats)
        wait_for(lambda: next(beats) > seen + 2)


def test_lost_lease_stops_the_run() -> None:
    """A refused renewal stops the run as lost, at once."""

    def refused() -> bool:
        raise LeaseLost("another worker has it")

    with held(refused) as lease:
        wait_for(lambda: lease.stopped)

    assert lease.stop_reason is Stop.LOST


def test_silence_is_borne_for_a_while() -> None:
    """While the store does not answer, the run goes on; past the limit the lease counts as lost."""

    def silent() -> bool:
        raise StoreUnavailable("no answer")

    began = time.monotonic()
    with held(silent, give_up_s=0.2) as lease:
        wait_for(lambda: lease.stopped)

    assert lease.stop_reason is Stop.LOST
    assert time.monotonic() - began >= 0.2


def test_an_answer_that_does_not_come() -> None:
    """The limit holds while a renewal is still waiting for its answer."""
    answer = threading.Event()

    def stuck() -> bool:
        answer.wait(5)
        raise StoreUnavailable("no answer")

    began = time.monotonic()
    with held(stuck, give_up_s=0.2) as lease:
        wait_for(lambda: lease.stopped)
        noticed_s = time.monotonic() - began
        answer.set()

    assert lease.stop_reason is Stop.LOST
    assert 0.2 <= noticed_s < 1


def test_one_answer_ends_the_silence() -> None:
    """Silence is counted from the last answer, so an outage shorter than the limit costs nothing."""
    answers = 0

    def flaky() -> bool:
        nonlocal answers
        answers += 1
        if answers % 2:
            raise StoreUnavailable("no answer")
        return False

    with held(flaky, give_up_s=1.0) as lease:
        wait_for(lambda: answers > 300, seconds=20)

        assert not lease.stopped


def test_the_first_reason_stays() -> None:
    """A run that is stopped for one reason keeps it when another comes."""
    lease = held(lambda: False)

    lease.stop(Stop.SHUTDOWN)
    lease.stop(Stop.LOST)

    assert lease.stop_reason is Stop.SHUTDOWN
