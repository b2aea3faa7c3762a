"""The HTTP API in process: lists of jobs, several by id, and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from api.schemas import FIELDS
from artifacts import Shelf
from jobs import JobType
from store import Query, Rules, Store
from submission import Options
from tests.api_cases import FILES, UNKNOWN, Client, client, finish
from tests.store_cases import BROKEN, claimed, next_job, request

SUBMISSION = {"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


def ids(answer: Any) -> list[str]:
    return [job["jobId"] for job in answer.json["jobs"]]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_list(api: Client, store: Store, shelf: Shelf) -> None:
    """The newest jobs come first, as their records without what may be large; next is null on the last page."""
    older = finish(store, shelf, claimed(store), FILES)
    newer = store.add(request())

    answer = api.get("/api/jobs")

    assert ids(answer) == [newer.id, older.id]
    assert answer.json["next"] is None
    record = older.to_json()
    assert answer.json["jobs"][1] == {
        name: value for name, value in record.items() if name not in ("result", "artifacts", "attempts")
    }


def test_all_pages(api: Client, store: Store) -> None:
    """Following next shows every job once."""
    jobs = [store.add(request()).id for _ in range(7)]
    seen, cursor = [], ""
    while True:
        answer = api.get(f"/api/jobs?limit=2{cursor}")
        seen += ids(answer)
        if not answer.json["next"]:
            break
        cursor = f"&cursor={answer.json['next']}"

    assert seen == jobs[::-1]


def test_filters(api: Client, store: Store) -> None:
    """Each filter finds its job alone, and together they find what passes all."""
    wanted = store.submit(request(JobType.TEST, chat_id="c ü"), Options(tags=("nightly", "v:2"))).job
    running = next_job(store)
    store.finish(running.id, running.fence, BROKEN)
    store.add(request(chat_id="other"))
    created = wanted.to_json()["createdAt"]

    queries = [
        "status=failed", "conclusion=failure", "reason=build_failed", "type=test", "chatId=c%20%C3%BC", "tag=nightly",
        "tag=nightly&tag=v:2", "q=build+SAYS", f"q={wanted.id[:20]}", "status=failed&type=test&tag=v:2&q=nightly",
    ]  # fmt: skip
    assert {query: ids(api.get(f"/api/jobs?{query}")) for query in queries} == {key: [wanted.id] for key in queries}
    assert ids(api.get("/api/jobs?status=failed&type=build")) == []
    assert wanted.id in ids(api.get(f"/api/jobs?from={created}&to=2099-01-01T00:00:00+01:00"))
    assert ids(api.get(f"/api/jobs?to={created.replace('20', '19', 1)}")) == []


def test_fields(api: Client, store: Store, shelf: Shelf) -> None:
    """An answer has the chosen fields only, large ones too, and what is included beside the usual ones."""
    job = finish(store, shelf, claimed(store), FILES)

    assert api.get("/api/jobs?fields=jobId,artifacts").json["jobs"] == [
        {"jobId": job.id, "artifacts": list(job.artifacts)}
    ]
    assert api.get("/api/jobs?include=result").json["jobs"][0]["result"] == job.result


def test_fields_are_those_of_records(store: Store, shelf: Shelf) -> None:
    """Every field that a record can have is known by name."""
    full = store.submit(request(), Options(tags=("a",), metadata={"b": 1}, webhook=("x",), replay_of=UNKNOWN)).job
    cancelled = claimed(store)
    record = {**full.to_json(), **store.cancel(cancelled.id).to_json()}

    assert record.keys() <= set(FIELDS)


def test_by_ids(api: Client, store: Store) -> None:
    """Several records come in the order of their ids; those that are not there are named."""
    first, second = store.add(request()), store.add(request())

    answer = api.get(f"/api/jobs?ids={second.id},{UNKNOWN},{first.id}&fields=jobId")

    assert ids(answer) == [second.id, first.id]
    assert answer.json["missing"] == [UNKNOWN]


@pytest.mark.parametrize(
    "query",
    [
        "status=done", "conclusion=x", "reason=x", "type=x", "tag=a%20b", "chatId=%00", "from=yesterday",
        "to=2026-01-01", "to=9999-12-31T23:59:59", "limit=0", "limit=201", "limit=x", "cursor=xyz", "fields=env",
        "include=request", "ids=a,b", "q=x", "statsu=failed", "status=failed&status=failed",
    ],
)  # fmt: skip
def test_bad_queries(api: Client, query: str) -> None:
    """A query that makes no sense is a 400 problem that names the parameter, also one with a typing error."""
    answer = api.get(f"/api/jobs?{query}", status=400)

    assert answer.json["errors"][0]["pointer"] == "?" + query.partition("=")[0]


def test_all_mistakes_at_once(api: Client) -> None:
    """A query with several mistakes is answered with all of them."""
    errors = api.get("/api/jobs?status=x&limit=0&nope=1", status=400).json["errors"]

    assert {error["pointer"] for error in errors} == {"?status", "?limit", "?nope"}


def test_versioned_prefix(api: Client, store: Store) -> None:
    """Every address is there below /api/v1 too."""
    job = store.add(request())

    assert api.get(f"/api/v1/jobs/{job.id}").json == api.get(f"/api/jobs/{job.id}").json
    assert api.post_json("/api/v1/jobs", SUBMISSION, status=201).json["status"] == "pending"


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batch(api: Client, store: Store) -> None:
    """Each submission of a batch gets the answer that it would get alone, in order; the good ones are stored."""
    wrong = {"type": "build", "data": {"projectFiles": {"/etc/passwd": ""}}, "priority": 99}
    answer = api.post_json("/api/jobs/batch", {"jobs": [SUBMISSION, wrong, 7, {**SUBMISSION, "type": "lint"}]})

    results = answer.json["results"]
    assert [result["httpStatus"] for result in results] == [201, 400, 400, 201]
    assert answer.json["created"] == 2
    assert store.get(results[3]["job"]["jobId"]).type is JobType.LINT
    alone = api.post_json("/api/jobs", wrong, status=400).json
    assert results[1]["problem"]["errors"] == alone["errors"]
    assert results[2]["problem"]["code"] == "invalid_request"


def test_batch_again(api: Client) -> None:
    """A batch that is sent again, with a key or soon, means the jobs that are there."""
    body = {"jobs": [SUBMISSION, {**SUBMISSION, "type": "lint"}]}
    for headers in ({}, {"Idempotency-Key": "k"}):
        first = api.post_json("/api/jobs/batch", body, headers=headers).json["results"]
        second = api.post_json("/api/jobs/batch", body, headers=headers).json["results"]
        assert [result["httpStatus"] for result in first] == [201, 201]
        assert [result["httpStatus"] for result in second] == [200, 200]
        assert [result["job"]["jobId"] for result in first] == [result["job"]["jobId"] for result in second]


def test_full_queue_in_a_batch(redis_url: str, shelf: Shelf) -> None:
    """What finds no room in a batch is 429 on its own."""
    store = Store(redis_url, rules=Rules(queue_bound=1))
    jobs = [{**SUBMISSION, "priority": priority} for priority in (1, 2)]
    results = client(store, shelf).post_json("/api/jobs/batch", {"jobs": jobs}).json["results"]
    store.close()

    assert [result["httpStatus"] for result in results] == [201, 429]


@pytest.mark.parametrize("body", [{}, {"jobs": []}, {"jobs": {}}, {"jobs": [SUBMISSION] * 101}, {"jobs": [1], "x": 1}])
def test_bad_batches(api: Client, store: Store, body: Any) -> None:
    """A batch that is none is refused whole."""
    api.post_json("/api/jobs/batch", body, status=400)

    assert store.find(Query()).jobs == ()


def test_batch_is_one_round_trip(api: Client, redis_url: str) -> None:
    """A hundred submissions go to Redis together."""
    jobs = [{**SUBMISSION, "priority": 1 + n % 20, "tags": [f"t{n}"]} for n in range(100)]
    api.post_json("/api/jobs/batch", {"jobs": jobs[:1]})  # connects, and teaches Redis the script
    with redis.Redis.from_url(redis_url) as other:
        reads_before = other.info("stats")["total_reads_processed"]
        results = api.post_json("/api/jobs/batch", {"jobs": jobs}).json["results"]
        reads = other.info("stats")["total_reads_processed"] - reads_before

    assert sum(result["httpStatus"] == 201 for result in results) == 99
    assert reads <= 16  # 150 KB in blocks of 16 KB, and this test's own question; one by one there would be 99
