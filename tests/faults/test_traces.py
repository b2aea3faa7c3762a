"""The trace of a job through the whole service, from the request to the webhooks; and a collector that fails."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import requests

from tests.collector import Collector, tree
from tests.faults.client import Client
from tests.faults.scripted import PLAN, Plan
from tests.faults.service import Service, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "congo=t61rcWkgMzE"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().serve() as serving:
        yield serving


def post(client: Client, plan: Plan, headers: dict[str, str], path: str = "/api/jobs") -> str:
    """The id of a job that was taken in with these headers."""
    body = {"type": "build", "data": {"chatId": "chat", "projectFiles": {PLAN: json.dumps(asdict(plan))}}}
    batch = path.endswith("batch")
    answer = requests.post(
        client.url + path, json={"jobs": [body]} if batch else body, headers=headers, timeout=10
    ).json()
    job_id = str(answer["results"][0]["job"]["jobId"] if batch else answer["jobId"])
    client.sent.acknowledged.append(job_id)
    return job_id


def stop_all(service: Service) -> None:
    """End every process as a supervisor would, so that it hands on the spans that it has."""
    for worker in service.living():
        service.signal(worker, signal.SIGTERM)
        worker.wait(15)
    service.api.terminate()
    service.api.wait(20)


def test_the_story_of_a_job(collector: Collector) -> None:
    """All spans of a job with a failed attempt are one tree below the caller's, and the receiver can go on below it."""
    with running(workers=1, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, LOG_FORMAT="json") as service:
        job_id = post(service.start_api(), Plan(faults=1), HEADERS)
        service.settle()
        stop_all(service)
        (result,) = service.sink.results(job_id)
        log = [json.loads(line) for line in service.log_tail().splitlines() if line.startswith("{")]

    spans = [span for span in collector.spans if span.trace == TRACE]
    (request,) = (span for span in spans if span.kind == "server")
    told = [span for span in spans if span.name.startswith("webhook")]
    attempts = [span for span in spans if span.name == "attempt"]

    assert (request.name, request.parent, request.facts["chef.job.id"]) == ("POST /api/jobs", PARENT, job_id)
    ((name, below),) = tree(spans)
    assert name == "POST /api/jobs"
    assert sorted(map(str, below)) == sorted(
        map(str, ["queue", ("attempt", ["building"])] * 2 + [span.name for span in told])
    )
    assert [(span.failed, span.facts["chef.job.attempt"]) for span in attempts] == [(True, 1), (False, 2)]
    assert attempts[0].facts["chef.reason"] == "container_start_failed"
    (end,) = (span for span in told if span.name == "webhook job.completed")
    assert result.headers["traceparent"] == f"00-{TRACE}-{end.id}-01"
    assert result.headers["tracestate"] == HEADERS["tracestate"]
    assert (end.kind, end.facts["http.response.status_code"], end.facts["chef.webhook.try"]) == ("client", 200, "1")
    assert {entry["trace"] for entry in log if entry.get("job") == job_id} == {TRACE}
    assert {entry["event"] for entry in log if entry.get("trace") == TRACE} >= {"request", "attempt starts"}


def test_every_way_in(collector: Collector) -> None:
    """A batch, a rerun and a job without any trace have theirs as well; what is only read has no span."""
    with running(workers=1, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as service:
        client = service.start_api()
        first = post(client, Plan(), HEADERS, "/api/jobs/batch")
        service.ended(first)
        again = requests.post(f"{client.url}/api/jobs/{first}/rerun", headers=HEADERS, timeout=10).json()["jobId"]
        alone = post(client, Plan(ms=60), {})
        for job_id in (again, alone):
            service.ended(job_id)
        stop_all(service)

    jobs = {span.facts["chef.job.id"]: span.trace for span in collector.spans if span.name == "attempt"}
    assert (jobs[first], jobs[again]) == (TRACE, TRACE)
    assert jobs[alone] in {span.trace for span in collector.spans if span.name == "POST /api/jobs"} - {TRACE}
    assert not [span for span in collector.spans if span.name.startswith("GET")]


def test_without_a_collector() -> None:
    """The receiver is handed the caller's own place; a traceparent that is not valid is as if it were not there."""
    with running(workers=1) as service:
        client = service.start_api()
        joined = post(client, Plan(), HEADERS)
        alone = post(client, Plan(ms=60), {"traceparent": HEADERS["traceparent"].upper(), "tracestate": "congo=t61"})
        service.settle()

        assert HEADERS.items() <= service.sink.results(joined)[0].headers.items()
        assert not {"traceparent", "tracestate"} & service.sink.results(alone)[0].headers.keys()


def test_a_collector_that_is_away() -> None:
    """Jobs are as fast as ever, the log has one line of it in each process, and all end when they are told to."""
    with Collector().serve() as gone:
        pass
    with running(workers=1, OTEL_EXPORTER_OTLP_ENDPOINT=gone.url) as service:
        client = service.start_api()
        began = time.monotonic()
        for number in range(10):
            client.submit(Plan(ms=0), f"chat-{number}")
        service.settle()
        took_s = time.monotonic() - began
        time.sleep(3)
        began = time.monotonic()
        stop_all(service)
        ended_s = time.monotonic() - began
        log = (service.folder / "service.log").read_text()

    assert took_s < 8
    assert ended_s < 12
    assert 1 <= log.count("takes no traces") <= 3
    assert "Traceback" not in log
