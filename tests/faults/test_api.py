"""The API killed, or without its Redis: who asks again gets one job, and what was acknowledged is kept."""

from __future__ import annotations

import time

import pytest

from tests.faults import scenarios
from tests.faults.scripted import DEADLY, Plan
from tests.faults.service import running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


@pytest.mark.parametrize("key", ["key-{n}", ""], ids=["idempotency key", "same request"])
def test_killed_before_it_answers(key: str) -> None:
    """The job was stored, the answer never came: the caller's second request is answered with that same job."""
    with running(workers=1) as service:
        client = service.start_api("tests.faults.api:wsgi()")

        ids = [client.submit(Plan(ms=1500 + n), DEADLY, key.format(n=n)) for n in range(2)]

        assert client.broken >= 2
        assert len(set(ids)) == 2
        service.settle()
        assert {step.job_id for step in service.ledger.starts()} == set(ids)


def test_killed_at_random() -> None:
    """API processes killed under a stream of requests: every job that was acknowledged ends, none is there twice."""
    outcome = scenarios.api_kills(kills=3)

    assert outcome.verdict.reruns == 0


def test_without_redis() -> None:
    """While Redis is away the API answers 503 within a second, and takes jobs again as soon as it is back."""
    with running(workers=1) as service:
        client = service.start_api()
        client.submit(Plan(ms=10), "before")
        service.redis.kill()

        began = time.monotonic()
        answer = client.once(Plan(ms=10), "meanwhile")
        answered_s = time.monotonic() - began

        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"]
        assert answered_s < 1
        service.redis.start()
        client.submit(Plan(ms=10), "after")
        service.settle()
