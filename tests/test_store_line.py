"""In which order waiting jobs are claimed, and how workers are woken."""

from __future__ import annotations

import threading
import time

from jobs import JobType
from store import Store
from tests.store_cases import SUCCESS, claimed, next_job, request


def test_larger_priority_first(store: Store) -> None:
    """A larger priority is claimed first, whatever the queue; equal ones in the order they came."""
    added = [
        store.add(request(kind, priority=priority))
        for kind, priority in [(JobType.BUILD, 1), (JobType.LINT, 5), (JobType.TEST, 20), (JobType.BUILD, 5)]
    ]

    order = [next_job(store).id for _ in added]

    assert order == [added[index].id for index in (2, 1, 3, 0)]


def test_first_come_first_served(store: Store) -> None:
    """Jobs of one chat and priority start in the order they were added."""
    added = [store.add(request(chat_id="c")).id for _ in range(50)]

    assert [next_job(store).id for _ in added] == added


def test_chats_take_turns(store: Store) -> None:
    """A chat with a thousand waiting jobs delays another chat's next job by at most one claim."""
    for _ in range(1000):
        store.add(request(chat_id="busy"))
    next_job(store)
    for number in range(3):
        quiet = store.add(request(chat_id="quiet"))

        order = [next_job(store).id for _ in range(2)]

        assert quiet.id in order, number


def test_equal_shares(store: Store) -> None:
    """Chats with many waiting jobs are served alternately, each in its own order."""
    added = {chat: [store.add(request(chat_id=chat)).id for _ in range(4)] for chat in ("a", "b", "c")}

    served = [next_job(store) for _ in range(12)]

    assert [job.chat_id for job in served] == ["a", "b", "c"] * 4
    for chat, ids in added.items():
        assert [job.id for job in served if job.chat_id == chat] == ids


def test_cancelled_jobs_leave_no_gap(store: Store) -> None:
    """A chat that cancelled its waiting jobs is served as if they had never been."""
    gone = [store.add(request(chat_id="a")) for _ in range(20)]
    for job in gone:
        store.cancel(job.id)
    first = store.add(request(chat_id="b"))
    second = store.add(request(chat_id="a"))
    third = store.add(request(chat_id="b"))

    assert [next_job(store).id for _ in range(3)] == [first.id, second.id, third.id]


def test_add_wakes_a_worker(store: Store) -> None:
    """A worker that waits for work is woken by a new job at once."""
    woken = threading.Event()

    def wait() -> None:
        store.wait_for_work("other", 5)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    started = time.monotonic()
    store.add(request())
    thread.join()

    assert woken.is_set()
    assert time.monotonic() - started < 2


def test_each_waiting_job_wakes_a_worker(store: Store) -> None:
    """As long as jobs wait, a claim wakes the next worker; the last claim wakes nobody."""
    for _ in range(2):
        store.add(request())
    store.wait_for_work("other", 1)

    next_job(store)
    started = time.monotonic()
    store.wait_for_work("other", 5)
    assert time.monotonic() - started < 2
    next_job(store)

    started = time.monotonic()
    store.wait_for_work("other", 0.05)
    assert time.monotonic() - started >= 0.04


def test_other_queue_is_served_too(store: Store, redis_url: str) -> None:
    """Members of the other queue are taken, smallest first, also while jobs wait; looking does not block."""
    store.add(request())
    store._redis.zadd("other", {b"second": 2, b"first": 1})

    assert store.wait_for_work("other", 1) == b"first"
    assert store.wait_for_work("other", 0) == b"second"
    assert store.wait_for_work("other", 0) is None


FILL = """
for i = 1, 100000 do
  local priority, chat = 1 + i % 20, i % 500
  redis.call('ZADD', 'cw:flow:builds:' .. priority .. ':' .. chat, i, 'job-' .. i)
  redis.call('ZADD', 'cw:waiting:builds', 9e15, 'job-' .. i)
  redis.call('ZADD', 'cw:ready:builds', -priority * 1e13 + i, priority .. ':' .. chat)
end
"""


def test_cost_does_not_grow(store: Store) -> None:
    """A claim among 100,000 waiting jobs takes as many commands as one among ten, each logarithmic at most."""

    def commands_of_a_claim() -> int:
        store._redis.config_resetstat()
        next_job(store)
        return sum(command["calls"] for command in store._redis.info("commandstats").values())

    for _ in range(10):
        store.add(request(priority=20, chat_id="c"))
    next_job(store)
    before = commands_of_a_claim()
    store._redis.eval(FILL, 0)

    assert commands_of_a_claim() <= before + 2


def test_forged_entries_are_passed_over(store: Store) -> None:
    """Entries without a job behind them, broken records and finished jobs in the line stop nobody."""
    done = claimed(store)
    store.finish(done.id, done.fence, SUCCESS)
    raw = store._redis
    raw.zadd("cw:ready:builds", {b"\xff\x00": -9e14, b"20:": -8e14, b"19:ghost": -7e14})
    raw.zadd("cw:flow:builds:19:ghost", {b"job-ghost": 1, done.id: 2, b"job-text": 3})
    raw.set("cw:job:job-text", "not a record")
    for queue in ("delayed", "active"):
        raw.zadd(f"cw:{queue}:tests", {b"job-ghost": 1, b"job-text": 1, done.id: 1})

    good = store.add(request())

    assert next_job(store).id == good.id
    assert store.get(done.id).status == "completed"
    assert store.stats()["tests"] == {"waiting": 0, "delayed": 0, "active": 0, "completed": 0, "failed": 0}
