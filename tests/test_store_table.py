"""Redis accepts exactly the moves of jobs.TRANSITIONS."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from errors import LeaseLost
from jobs import TRANSITIONS, Retry, Status
from store import Store
from store.connection import KEY_NAMES
from tests.store_cases import BROKEN, FAULT, SUCCESS, claimed, request


def _overdue(store: Store, job_id: str) -> None:
    store.add(request(priority=20))  # what the claim below gets, so that the job stays where the takeover puts it
    store._redis.zadd("cw:active:builds", {job_id: 1})
    store.claim("w")


def _hopeless(store: Store, job_id: str) -> None:
    store._redis.hset(f"cw:job:{job_id}", "stalls", 2)
    _overdue(store, job_id)


def _in_line(store: Store, job_id: str) -> None:
    store._redis.zadd("cw:flow:builds:5:", {job_id: 1})
    store._redis.zadd("cw:ready:builds", {"5:": 1})
    store.claim("w")


def _overripe(store: Store, job_id: str) -> None:
    store._redis.zadd("cw:expiring", {job_id: 1})
    store.tick()


#: How each move is tried on a job, whatever its status, and whatever indexes would keep it from being tried.
MOVES: dict[str, Callable[[Store, str], object]] = {
    "claim": _in_line,
    "complete": lambda store, job_id: store.finish(job_id, 7, SUCCESS),
    "fail": lambda store, job_id: store.finish(job_id, 7, BROKEN),
    "retry": lambda store, job_id: store.finish(job_id, 7, FAULT, Retry(60_000, "again")),
    "release": lambda store, job_id: store.release(job_id, 7),
    "takeover": _overdue,
    "give_up": _hopeless,
    "expire": _overripe,
    "cancel": lambda store, job_id: store.cancel(job_id),
}


def test_every_move_is_tried() -> None:
    """A move that is added to the table is tried here."""
    assert set(MOVES) == set(TRANSITIONS)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("status", Status)
def test_status_and_move(store: Store, status: Status, move: str) -> None:
    """A job in any status makes a move if the table has it, and else stays as it is."""
    job = store.add(request())
    store._redis.hset(f"cw:job:{job.id}", mapping={"status": status, "fence": 7, "attempt": 1})
    for index in ("waiting:builds", "flow:builds:5:", "ready:builds"):
        store._redis.delete(f"cw:{index}")
    origins, target = TRANSITIONS[move]

    with contextlib.suppress(LeaseLost):
        MOVES[move](store, job.id)

    moved = store.get(job.id)
    if status in origins:
        assert (moved.status, moved.status.is_final) == (target, bool(moved.finished_ms))
    else:
        assert moved.status is status
        assert not moved.attempts


def test_key_catalogue(store: Store, redis_url: str) -> None:
    """Every key that a job leaves is in the catalogue of lua/keys.lua, and begins with the prefix."""
    job = claimed(store, chat_id="c")
    store.progress(job.id, job.fence, 5, "preparing")
    store.finish(job.id, job.fence, FAULT, Retry(60_000, "again"))
    store.add(request())

    names = {key.decode().split(":")[1] for key in store._redis.keys("cw:*")}

    assert names <= {name.rstrip(":") for name in KEY_NAMES.values()}
    assert len(store._redis.keys("*")) == len(store._redis.keys("cw:*"))
