"""The trace of a real build: every phase has a span with its own length."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

import config
import stack
from tests.collector import Collector, tree
from tests.conftest import private_redis
from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
FILES = {"package.json": '{"scripts": {"build": "sleep 1 && mkdir dist && echo made >dist/a.txt"}}'}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_phases_of_a_real_build(tmp_path: Path) -> None:
    """The spans of the phases lie inside the attempt, and are as long as the record says."""
    with Collector().serve() as collector, private_redis() as redis_url:
        variables = {"REDIS_URL": redis_url, "DATA_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        settings = config.load({**variables, "DEPENDENCY_CACHE_BYTES": "0", "RESULT_CACHE_HOURS": "0"})
        with stack.running(settings, print, port=0, log=tmp_path / "service.log") as service:
            headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            body = {"type": "build", "data": {"projectFiles": FILES}}
            taken = requests.post(f"{service.url}/api/jobs", json=body, headers=headers, timeout=10).json()
            record = Client(service).ended(taken["jobId"])
            collector.wait({"POST /api/jobs", "queue", "attempt", "building", "webhook job.completed"})

    spans = [span for span in collector.spans if span.trace == TRACE]
    attempt = next(span for span in spans if span.name == "attempt")
    phases = [span for span in spans if span.parent == attempt.id]
    lengths = {phase["name"]: phase["durationMs"] / 1000 for phase in record["result"]["phases"]}

    assert [tree([span])[0] for span in sorted(phases, key=lambda span: span.start_ns)] == list(lengths)
    assert all(attempt.start_ns <= span.start_ns <= span.end_ns <= attempt.end_ns for span in phases)
    assert all(abs(span.seconds - lengths[span.name]) < 0.05 for span in phases)
    assert lengths["building"] > 1
