"""Finding jobs: filters, cursors, text, what the moves keep in the indexes, and what a hundred thousand jobs cost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobs import Job, JobType
from store import Query, Rules, Store
from store.listing import HEAVY, LOOKED_AT
from store.values import Page
from submission import Options
from tests.store_cases import BROKEN, SUCCESS, claimed, next_job, request


def found(store: Store, *indexes: str, **more: Any) -> list[str]:
    return [job.id for job in store.find(Query(indexes=indexes, **more)).jobs]


def test_newest_first(store: Store) -> None:
    """All jobs are listed, the newest first, also those of one millisecond."""
    jobs = [store.add(request()) for _ in range(20)]

    assert found(store) == [job.id for job in reversed(jobs)]


def test_pages(store: Store) -> None:
    """Going on from page to page shows each job once, whatever comes in meanwhile; the last page says that it is."""
    jobs = [store.add(request()).id for _ in range(10)]
    seen: list[str] = []
    below = -1
    while below:
        page = store.find(Query(limit=3, below=max(0, below)))
        seen += [job.id for job in page.jobs]
        below = page.below
        store.add(request())

    assert seen == jobs[::-1]


def test_last_page_is_known(store: Store) -> None:
    """A page that happens to be full has no next one if there are no more jobs."""
    store.add(request())

    assert store.find(Query(limit=1)).below == 0


def test_indexes_follow_the_moves(store: Store) -> None:
    """A job is found by its status of now, and by its conclusion and reason once it has ended."""
    job = store.submit(request(chat_id="c:1"), Options(tags=("a", "b:c"))).job
    for expected in ("all", "type:build", "status:pending", "chat:c:1", "tag:a", "tag:b:c"):
        assert found(store, expected) == [job.id]
    running = next_job(store)
    assert (found(store, "status:pending"), found(store, "status:active")) == ([], [job.id])
    store.finish(running.id, running.fence, BROKEN)

    for expected in ("status:failed", "conclusion:failure", "reason:build_failed"):
        assert found(store, expected) == [job.id]
    assert found(store, "status:active") == []


def test_all_filters_hold(store: Store) -> None:
    """Several filters together find what passes all of them."""
    both = store.submit(request(chat_id="c"), Options(tags=("t",))).job
    store.submit(request(chat_id="d"), Options(tags=("t",)))
    store.submit(request(JobType.LINT, chat_id="c"), Options(tags=("t",)))

    assert found(store, "chat:c", "tag:t", "type:build") == [both.id]


def test_tenants(store: Store) -> None:
    """Jobs of one tenant are not in the lists of another."""
    store.add(request())

    assert found(store, tenant="other") == []


@pytest.mark.parametrize(("from_s", "to_s", "count"), [(0, 0, 1), (-5, 5, 1), (5, 9, 0), (-9, -5, 0), (0, 5, 1)])
def test_period(store: Store, from_s: int, to_s: int, count: int) -> None:
    """Only what came in within the period is found; its ends belong to it."""
    job = store.add(request())
    from_ms, to_ms = job.created_ms + from_s * 1000, job.created_ms + to_s * 1000

    assert len(found(store, from_ms=from_ms, to_ms=to_ms)) == count


def test_text(store: Store) -> None:
    """A text is looked for in id, message and tags, without regard to case."""
    tagged = store.submit(request(), Options(tags=("Nightly",))).job
    failed = next_job(store)
    store.finish(failed.id, failed.fence, BROKEN)  # "the build says no"
    other = store.add(request())

    assert found(store, text="NIGHT") == [tagged.id]
    assert found(store, text="build SAYS") == [failed.id]
    assert found(store, text=other.id[-8:]) == [other.id]
    assert found(store, text="[[") == []


def test_removal_and_light_records(store: Store) -> None:
    """What is removed is in no list; a light record lacks only what was left out."""
    job = claimed(store, chat_id="c")
    store.finish(job.id, job.fence, SUCCESS)

    (light,) = store.find(Query(), HEAVY).jobs
    assert (light.id, light.conclusion, light.attempts) == (job.id, "success", ())
    (whole,) = store.find(Query()).jobs
    assert whole == store.get(job.id)
    store.remove(job.id)
    assert store._redis.keys("cw:index:*") == []


def test_many(store: Store) -> None:
    """Several records come in one call, in order, with gaps for those that are not there."""
    first, second = store.add(request()), store.add(request())

    assert store.get_many([second.id, "job-x", first.id]) == [second, None, first]


def test_old_records_are_listed(store: Store) -> None:
    """Records of a version without indexes are found once the housekeeping has seen them."""
    job = store.add(request(chat_id="c"))
    for key in store._redis.keys("cw:index:*"):
        store._redis.delete(key)
    store._redis.hdel(f"cw:job:{job.id}", "number")
    assert found(store) == []

    store.tick()

    assert found(store, "chat:c", "status:pending") == [job.id]
    assert claimed(store).id == job.id
    assert found(store, "status:active") == [job.id]


# --- many jobs --------------------------------------------------------------------------------------------------------

MANY = 100_000


def fill(store: Store) -> Job:
    """MANY finished jobs as the moves would have left them, the oldest being the only one of a chat and type test."""
    jobs = [store.add(request(JobType.TEST, chat_id="rare"))]
    fields = {"queue": "builds", "type": "build", "priority": 5, "turn": 1, "chat_id": "", "fence": 1, "attempt": 1}
    begun = int(store._redis.get("cw:number")) + 1
    for start in range(begun, begun + MANY, 5_000):
        pipe = store._redis.pipeline(transaction=False)
        numbers = {f"job-{number:032x}": number for number in range(start, start + 5_000)}
        for name, number in numbers.items():
            record = {**fields, "id": name, "status": "completed", "created_ms": number // 1000, "number": number}
            pipe.hset(f"cw:job:{name}", mapping={**record, "conclusion": "success"})
        for index in ("all", "type:build", "status:completed", "conclusion:success"):
            pipe.zadd(f"cw:index::{index}", numbers)
        pipe.execute()
    store._redis.set("cw:number", begun + MANY)
    return jobs[0]


def usual(store: Store, query: Query, times: int = 21) -> tuple[float, Page]:
    """The median of some calls (s), and the last answer."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        page = store.find(query, HEAVY)
        took.append(time.perf_counter() - began)
    return sorted(took)[times // 2], page


@pytest.mark.timeout(120)
def test_a_hundred_thousand(redis_url: str) -> None:
    """With 100,000 jobs a page is as fast as with few, a rare one is found at once, a text after a bounded search."""
    store = Store(redis_url, rules=Rules(queue_bound=10 * MANY))
    rare = fill(store)
    common = ("type:build", "status:completed", "conclusion:success")

    page_s, page = usual(store, Query(indexes=common))
    chat_s, of_chat = usual(store, Query(indexes=("chat:rare", "status:pending")))
    text_s, nowhere = usual(store, Query(text="no such words"), 3)
    print(f"page {page_s * 1e3:.1f} ms, chat {chat_s * 1e3:.1f} ms, text in {LOOKED_AT:,} {text_s * 1e3:.1f} ms")

    assert len(page.jobs) == 50
    assert [job.id for job in of_chat.jobs] == [rare.id]
    assert nowhere.jobs == ()
    assert nowhere.below
    assert page_s < 0.1
    assert chat_s < 0.1
    assert text_s < 1
    store.close()
