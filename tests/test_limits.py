"""Rates and quotas: what is counted, what is refused, and when to come back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis

import config
from api.meter import client_address
from app import create_app
from artifacts import Shelf
from errors import QuotaExceeded, RateLimited
from jobs import Conclusion, Result
from rates import Rate
from store import Rules, Store
from submission import Options
from tests.api_cases import Client, key_of
from tests.store_cases import next_job, request

SUBMISSION = {"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}
RATE = Rate("key", "key:a", 600)


def service(store: Store, folder: Path, **settings: str) -> Client:
    return Client(create_app(config.load(settings), store, Shelf(folder), store.submit))


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_a_bucket_empties_and_fills(store: Store) -> None:
    """As many requests as the bucket holds pass at once; the next one is told exactly when it can."""
    rate = Rate("key", "key:a", 60)
    assert store.take([rate])[0].remaining == 59
    refused = until_refused(store, rate)
    assert 0 < refused.wait_s <= 1
    time.sleep(refused.wait_s)

    assert store.take([rate])[0].remaining == 0


def until_refused(store: Store, rate: Rate) -> RateLimited:
    """What the first request gets that is one too many."""
    for _ in range(10 * rate.per_minute):
        try:
            store.take([rate])
        except RateLimited as error:
            return error
    raise AssertionError("nothing was refused")


def test_one_empty_bucket_spares_the_others(store: Store) -> None:
    """A request that one limit refuses is counted by none."""
    small, large = Rate("address", "address:x", 1), Rate("key", "key:a", 100)
    store.take([large, small])
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            store.take([large, small])
        assert refused.value.rate == small

    assert store.take([large])[0].remaining == 98


def test_a_full_bucket_is_forgotten(store: Store, redis_url: str) -> None:
    """What is kept of a bucket goes away by itself when it is full again."""
    store.take([RATE])

    assert 0 < redis.Redis.from_url(redis_url).pttl("cw:rate:key:a") <= 100


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_rate_of_a_key(store: Store, tmp_path: Path) -> None:
    """A key's answers say what is left; beyond it comes 429 with Retry-After; another key is not concerned."""
    api = service(store, tmp_path, RATE_LIMIT_KEY="3")
    mine, other = key_of(store, "acme"), key_of(store, "acme")
    answers = [api.get("/api/stats", headers=mine, expect_errors=True) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=3;w=60'
    assert answers[0].headers["RateLimit"] == '"key";r=2;t=20'
    assert answers[3].headers["RateLimit"] == '"key";r=0;t=60'
    assert answers[3].headers["Retry-After"] in {"19", "20"}
    assert answers[3].json["code"] == "rate_limited"
    assert "3 requests a minute are taken for each key" in answers[3].json["detail"]
    assert api.get("/api/stats", headers=other).status_code == 200
    assert api.get("/api/health", headers=mine).status_code == 200


def test_rate_of_an_address(store: Store, tmp_path: Path) -> None:
    """An address has a limit of its own, whatever keys it uses, and is the one that a trusted proxy names."""
    api = service(store, tmp_path, RATE_LIMIT_ADDRESS="2", TRUSTED_PROXIES="127.0.0.1 10.0.0.0/8")
    headers = key_of(store, "acme")

    def ask(address: str) -> int:
        forwarded = {**headers, "X-Forwarded-For": address}
        answer = api.get(
            "/api/stats", headers=forwarded, extra_environ={"REMOTE_ADDR": "127.0.0.1"}, expect_errors=True
        )
        return int(answer.status_code)

    assert [ask("203.0.113.7"), ask("1.2.3.4, 203.0.113.7, 10.1.1.1"), ask("203.0.113.7")] == [200, 200, 429]
    assert ask("203.0.113.8") == 200


def commands(redis_url: str) -> dict[str, int]:
    stats = redis.Redis.from_url(redis_url).info("commandstats")
    return {name: figures["calls"] for name, figures in stats.items()}


def test_submission_is_counted_in_its_own_call(store: Store, tmp_path: Path, redis_url: str) -> None:
    """With a key and both limits, a POST is still one call to Redis, and its answer says what is left."""
    api = service(store, tmp_path, RATE_LIMIT_KEY="100", RATE_LIMIT_ADDRESS="100")
    headers = key_of(store, "acme")
    api.post_json("/api/jobs", SUBMISSION, headers=headers)
    before = commands(redis_url)
    answer = api.post_json("/api/jobs", SUBMISSION, headers=headers)
    after = commands(redis_url)

    assert after["cmdstat_evalsha"] - before["cmdstat_evalsha"] == 1
    assert after["cmdstat_hgetall"] - before["cmdstat_hgetall"] == 1  # the record, inside the script
    policies, states = answer.headers["RateLimit-Policy"], answer.headers["RateLimit"]
    assert policies == '"key";q=100;w=60, "address";q=100;w=60'
    assert states.startswith('"key";r=98;t=2, "address";r=9')


def test_submissions_beyond_the_rate(store: Store, tmp_path: Path) -> None:
    """Submissions that are refused, for their body or the rate, count, and store nothing."""
    api = service(store, tmp_path, RATE_LIMIT_KEY="3")
    headers = key_of(store, "acme")
    bodies: list[Any] = [SUBMISSION, {"type": "nonsense"}, {**SUBMISSION, "priority": 6}, {**SUBMISSION, "priority": 7}]
    statuses = [api.post_json("/api/jobs", each, headers=headers, expect_errors=True).status_code for each in bodies]

    assert statuses == [201, 400, 201, 429]
    assert store.stats()["builds"]["waiting"] == 2


def test_a_flood_does_not_reach_redis(store: Store, tmp_path: Path, redis_url: str) -> None:
    """Once a bucket is known to be empty, requests are refused without asking Redis until it is not."""
    api = service(store, tmp_path, RATE_LIMIT_KEY="1")
    headers = key_of(store, "acme")
    for _ in range(2):
        api.get("/api/stats", headers=headers, expect_errors=True)
    before = commands(redis_url).get("cmdstat_evalsha", 0)
    statuses = {api.get("/api/stats", headers=headers, expect_errors=True).status_code for _ in range(50)}

    assert statuses == {429}
    assert commands(redis_url).get("cmdstat_evalsha", 0) == before


def test_guessing_is_slowed(store: Store, tmp_path: Path) -> None:
    """After ten wrong keys in a minute an address gets 429 with Retry-After; a good key from there still opens."""
    api = service(store, tmp_path)
    good = key_of(store, "acme")
    wrong = {"Authorization": "Bearer cw_" + "0" * 12 + "_" + "0" * 64}
    answers = [api.get("/api/stats", headers=wrong, expect_errors=True) for _ in range(1_000)]

    assert [answer.status_code for answer in answers[:11]] == [401] * 10 + [429]
    assert sum(answer.status_code == 401 for answer in answers) < 20
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 6
    assert api.get("/api/stats", headers=good).status_code == 200


# --- quotas -----------------------------------------------------------------------------------------------------------


def limited(redis_url: str, **rules: Any) -> Store:
    return Store(redis_url, rules=Rules(**rules))


def test_quota_of_queued_jobs(redis_url: str, tmp_path: Path) -> None:
    """A tenant may have so many jobs waiting; other tenants, and its own next job after one started, are taken."""
    store = limited(redis_url, quota_queued=2)
    api = service(store, tmp_path, SAME_REQUEST_IS_SAME_JOB="false")
    acme, other = key_of(store, "acme"), key_of(store, "other")
    first = [api.post_json("/api/jobs", SUBMISSION, headers=acme, expect_errors=True) for _ in range(3)]

    assert [answer.status_code for answer in first] == [201, 201, 429]
    assert (first[2].json["code"], first[2].headers["Retry-After"]) == ("quota_exceeded", "30")
    assert "quota of queued: 2 jobs that wait" in first[2].json["detail"]
    assert api.post_json("/api/jobs", SUBMISSION, headers=other).status_code == 201
    next_job(store)
    assert api.post_json("/api/jobs", SUBMISSION, headers=acme).status_code == 201
    store.close()


def test_quota_of_cpu(redis_url: str) -> None:
    """CPU time that runs used is forgotten evenly over an hour; with the quota used up the wait is told exactly."""
    store = limited(redis_url, quota_cpu_ms=3_600_000)
    run(store, cpu_s=3_000.0)
    run(store, cpu_s=610.0)

    with pytest.raises(QuotaExceeded, match="3,600 seconds of CPU time in an hour") as refused:
        store.submit(request(), Options(tenant="acme"))
    assert 5 <= refused.value.retry_after_s <= 11
    assert store.submit(request(), Options(tenant="other")).created
    store.close()


def run(store: Store, cpu_s: float) -> str:
    store.submit(request(), Options(tenant="acme"))
    job = next_job(store)
    store.finish(job.id, job.fence, Result(Conclusion.SUCCESS, detail={"usage": {"cpuSeconds": cpu_s}}))
    return job.id


def test_quota_of_bytes(redis_url: str) -> None:
    """What a tenant's finished jobs take is bounded; removing them makes room."""
    store = limited(redis_url, quota_bytes=1)
    finished = run(store, cpu_s=0)
    with pytest.raises(QuotaExceeded, match="1 bytes of finished jobs"):
        store.submit(request(), Options(tenant="acme"))
    store.remove(finished)

    assert store.submit(request(), Options(tenant="acme")).created
    store.close()


# --- addresses --------------------------------------------------------------------------------------------------------

ADDRESSES = [
    ("203.0.113.7", "", "203.0.113.7"),
    ("203.0.113.7", "1.2.3.4", "203.0.113.7"),
    ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
    ("10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),
    ("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.2.2.2", "1.2.3.4"),
    ("10.0.0.1", "9.9.9.9, nonsense", "10.0.0.1"),
    ("10.0.0.1", "10.3.3.3", "10.3.3.3"),
    ("10.0.0.1", "", "10.0.0.1"),
    ("10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
    ("", "1.2.3.4", ""),
]


@pytest.mark.parametrize(("peer", "forwarded", "address"), ADDRESSES)
def test_whose_request(peer: str, forwarded: str, address: str) -> None:
    """The address is the peer's, or the last that trusted proxies have seen; nothing a client writes changes it."""
    import ipaddress

    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}

    assert client_address(environ, (ipaddress.ip_network("10.0.0.0/8"),)) == address
