"""Questions that are asked together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from errors import StoreUnavailable
from store.together import Together


class Redis:
    """Doubles numbers, when it is let; remembers what it was asked together."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = threading.Event()

    def ask(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        self.open.wait(5)
        return [2 * number for number in numbers]


def refusal(text: str) -> StoreUnavailable:
    error = StoreUnavailable(text)
    error.__cause__ = redis.ResponseError(text)
    return error


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def asked(together: Together[int, int], crowd: ThreadPoolExecutor, numbers: Sequence[int]) -> list[object]:
    """Ask one number, and the others while it is under way; answers and errors."""

    def one(number: int) -> object:
        try:
            return together(number)
        except StoreUnavailable as error:
            return str(error)

    first = crowd.submit(one, numbers[0])
    wait_until(lambda: together._is_asking and not together._gathered)
    others = [crowd.submit(one, number) for number in numbers[1:]]
    wait_until(lambda: len(together._gathered) == len(others))
    opened.set()
    return [each.result(5) for each in (first, *others)]


opened = threading.Event()


@pytest.fixture(autouse=True)
def closed() -> None:
    opened.clear()


@pytest.fixture
def stand_in() -> Redis:
    made = Redis()
    made.open = opened
    return made


def test_one_alone(stand_in: Redis) -> None:
    """A single question is asked at once."""
    opened.set()
    together = Together(stand_in.ask, 8)

    assert [together(1), together(2)] == [2, 4]
    assert stand_in.calls == [[1], [2]]


def test_all_that_came_meanwhile(stand_in: Redis) -> None:
    """Questions that come during a call are one call after it, up to the bound, and each gets its own answer."""
    together = Together(stand_in.ask, 4)
    with ThreadPoolExecutor(7) as crowd:
        assert asked(together, crowd, range(7)) == [0, 2, 4, 6, 8, 10, 12]

    assert [len(call) for call in stand_in.calls] == [1, 4, 2]
    assert not together._is_asking


def test_one_bad_question(stand_in: Redis) -> None:
    """What Redis refuses is asked again one by one, so that a question fails for what is wrong with itself alone."""

    def ask(numbers: Sequence[int]) -> list[int]:
        answers = stand_in.ask(numbers)
        if 3 in numbers:
            raise refusal("three")
        return answers

    together = Together(ask, 8)
    with ThreadPoolExecutor(5) as crowd:
        assert asked(together, crowd, range(5)) == [0, 2, 4, "three", 8]
    assert together(6) == 12


def test_away(stand_in: Redis) -> None:
    """When Redis does not answer, all who wait are told at once, and the next question is asked anew."""

    def ask(numbers: Sequence[int]) -> list[int]:
        answers = stand_in.ask(numbers)
        if numbers[0] == 0:
            raise StoreUnavailable("away")
        return answers

    together = Together(ask, 8)
    with ThreadPoolExecutor(3) as crowd:
        assert asked(together, crowd, range(3)) == ["away", "away", "away"]

    assert stand_in.calls == [[0]]
    assert together(6) == 12
