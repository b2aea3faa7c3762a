"""Redis killed, slow, silent, full: no job is lost, no run outlives its lease, and all goes on by itself."""

from __future__ import annotations

import threading

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from errors import StoreUnavailable
from tests.faults import scenarios
from tests.faults.scripted import Plan
from tests.faults.service import Service, is_healthy, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


def test_killed() -> None:
    """Redis killed and started again under load: every job ends once, in workers that were never restarted."""
    outcome = scenarios.redis_kills(jobs=20, kills=1, down_s=0.5)

    assert outcome.verdict.overlaps == []


def test_frozen_for_less_than_a_lease() -> None:
    """A Redis that answers nobody for a while costs no run its job, and no thread stays behind."""
    with running(workers=2, LEASE_SECONDS="9") as service:
        jobs = [service.add(Plan(ms=3500).request(f"chat-{n}")) for n in range(3)]
        for job in jobs:
            service.started(job.id)

        service.redis.freeze()
        threading.Event().wait(2.5)  # longer than a client waits for an answer
        service.redis.thaw()

        assert {service.ended(job.id).fence for job in jobs} == {1}
        assert service.settle().reruns == 0
        assert service.ended(service.add(Plan().request()).id, 5).status == "completed"


def test_silent_partition() -> None:
    """A worker that hears nothing stops its run before another one may begin it; later it works again."""
    outcome = scenarios.silent_partition(lease_s=2)

    assert outcome.verdict.overlaps == []


def test_every_failed_call_is_counted() -> None:
    """What Redis did not answer is counted for the API and for the worker, once it is back."""

    def counted(process: str) -> float:
        text = requests.get(f"{client.url}/metrics", timeout=10).text
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        names = {"chefworkers_redis_errors_total"}
        return sum(each.value for each in samples if each.name in names and each.labels["process"] == process)

    with running(workers=1) as service:
        client = service.start_api()
        service.redis.kill()
        for _ in range(5):
            assert requests.get(f"{client.url}/api/jobs", timeout=10).status_code == 503
        threading.Event().wait(1)  # the worker asks by itself
        service.redis.start()
        service.until(lambda: is_healthy(client.url), 10, "a healthy API")

        service.until(lambda: counted("api") >= 5 and counted("worker") >= 1, 15, "figures of both")


def test_acknowledged_is_kept() -> None:
    """Every submission that was answered survives a Redis that is killed in the middle of the next ones."""
    outcome = scenarios.submissions_kept(kills=2)

    assert outcome.failed == 0


def test_full() -> None:
    """Filled by somebody else, Redis takes no new job; the ones it has run, end and are told of, until it is empty."""
    with running(workers=0) as service:
        jobs = [service.add(Plan(ms=20).request(f"chat-{n}")) for n in range(20)]
        fill(service)
        with pytest.raises(StoreUnavailable):
            service.store.add(Plan().request())

        service.start_worker()
        service.settle()

        assert {service.store.get(job.id).status for job in jobs} == {"completed"}
        service.redis.client.config_set("maxmemory", 0)
        assert service.ended(service.add(Plan().request()).id).status == "completed"


def fill(service: Service) -> None:
    """Foreign keys, until the server is over its bound."""
    client = service.redis.client
    for n in range(200):
        client.set(f"foreign:{n}", b"x" * 10_000)
    client.config_set("maxmemory", client.info("memory")["used_memory"] - (1 << 20))
