"""/metrics: what is counted in Redis and in processes, shown as Prometheus reads it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import upkeep
from api.exposition import Exposition
from deploy.grafana.build import FILE, dashboard
from errors import LeaseLost, StoreUnavailable
from jobs import Conclusion, Job, Reason, Result, Retry
from metrics import BUCKETS_MS, METRICS, PREFIX, Tally
from store import Store
from submission import Options
from tests.store_cases import SUCCESS, request

ROOT = Path(__file__).parent.parent
SHELF: Any = SimpleNamespace(free_bytes=lambda: 12_345)


def exposed(store: Store) -> dict[str, dict[str, float]]:
    """Every sample of the text, by name and by the values of its labels."""
    text = Exposition(store, SHELF, "1.2.3").metrics().decode()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = " ".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = sample.value
    return found


def claimed(store: Store) -> Job:
    """A job under way."""
    store.submit(request(), Options())
    job = store.claim("host:1").job
    assert job
    return job


def test_every_name_is_there_from_the_start(store: Store) -> None:
    """An empty service shows every metric, so that an alert on one never means nothing for want of data."""
    families = {
        family.name for family in text_string_to_metric_families(Exposition(store, SHELF, "1").metrics().decode())
    }

    assert families == {PREFIX + name for name in METRICS}


def test_a_job_is_counted_once(store: Store) -> None:
    """A submission, a wait, a retry, two runs and an end, each once, however often a call is repeated."""
    job = claimed(store)
    failed = Result(Conclusion.ERROR, Reason.RUNTIME_UNAVAILABLE, "gone")
    store.finish(job.id, job.fence, failed, Retry(0, "again"))
    again = store.claim("host:1").job
    assert again
    for _ in range(3):
        store.finish(again.id, again.fence, SUCCESS)
    seen = exposed(store)

    assert seen["jobs_submitted_total"] == {"type=build": 1}
    assert seen["job_retries_total"] == {"reason=runtime_unavailable": 1}
    assert seen["job_wait_seconds_count"] == {"type=build": 1}
    assert seen["job_run_seconds_count"] == {"type=build": 2}
    assert seen["jobs_finished_total"] == {"conclusion=success reason= type=build": 1}


def test_what_is_there_now(store: Store) -> None:
    """Queues, slots, workers and what is paused, as they are."""
    store.heartbeat("host:1", 4)
    claimed(store)
    store.submit(request(chat_id="other"), Options())
    store.pause("tests", "why")
    seen = exposed(store)

    assert seen["jobs"]["queue=builds state=waiting"] == seen["jobs"]["queue=builds state=active"] == 1
    assert seen["slots"] == {"state=busy": 1, "state=free": 3}
    assert seen["workers"] == {"": 1}
    assert 0 <= seen["worker_heartbeat_age_seconds"]["worker=host:1"] < 5
    assert (seen["queue_paused"]["queue=tests"], seen["queue_paused"]["queue=builds"]) == (1, 0)
    assert seen["queue_oldest_age_seconds"]["queue=lint"] == 0 <= seen["queue_oldest_age_seconds"]["queue=builds"] < 5
    assert seen["build"] == {"version=1.2.3": 1}
    assert seen["free_disk_bytes"] == {"": 12_345}


def test_trouble_is_counted(redis_url: str) -> None:
    """A run that lost its lease, and the write that was refused for it."""
    store = Store(redis_url, lease_ms=50)
    job = claimed(store)
    deadline = time.monotonic() + 5
    while store.claim("host:2").job is None:
        assert time.monotonic() < deadline
    with pytest.raises(LeaseLost):
        store.finish(job.id, job.fence, SUCCESS)
    seen = exposed(store)
    store.close()

    assert seen["leases_lost_total"] == seen["stale_writes_refused_total"] == {"": 1}


def test_bounds_belong_to_their_bucket() -> None:
    """A value that is a bound counts into its bucket, as Prometheus' le says."""
    for ms in (0, *BUCKETS_MS, *(bound + 1 for bound in BUCKETS_MS)):
        tally = Tally()
        tally.observe("job_run_seconds", ms / 1000, "build")
        (bucket,) = (field.split("|")[2] for field in tally.taken() if "sum" not in field)
        assert bucket == next((str(bound) for bound in BUCKETS_MS if ms <= bound), "inf")


def test_a_tally_loses_nothing(store: Store) -> None:
    """What Redis did not take is counted with what comes later; threads do not get in each other's way."""
    tally = Tally()

    def count() -> None:
        for _ in range(1_000):
            tally.count("redis_errors", "api")
            tally.observe("http_request_seconds", 0.02, "GET", "/")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    away: Any = SimpleNamespace(add_figures=_raise)
    with pytest.raises(StoreUnavailable):
        upkeep.hand_in(away, tally)
    count()
    upkeep.hand_in(store, tally)
    upkeep.hand_in(store, tally)
    seen = exposed(store)

    assert seen["redis_errors_total"] == {"process=api": 5_000}
    assert seen["http_request_seconds_count"] == {"method=GET route=/": 5_000}
    assert seen["http_request_seconds_sum"] == {"method=GET route=/": 100}
    assert seen["http_request_seconds_bucket"]["le=0.01 method=GET route=/"] == 0
    assert seen["http_request_seconds_bucket"]["le=0.025 method=GET route=/"] == 5_000


def _raise(counted: Any) -> None:
    raise StoreUnavailable("away")


def test_fields_of_another_release(store: Store) -> None:
    """A field that this release does not know, or whose labels have changed, is left out and breaks nothing."""
    store.add_figures(
        {"of_tomorrow|x": 1, "jobs_submitted|build|new": 1, "job_run_seconds|build": 1, "cache_hits|a": 2}
    )

    assert exposed(store)["cache_hits_total"] == {"kind=a": 2}


def names_in(text: str) -> Iterator[str]:
    """The metrics that a text of rules or panels names, without the suffixes of counters and histograms."""
    for name in re.findall(rf"\b{PREFIX}(\w+)", text):
        yield re.sub(r"_(total|bucket|sum|count)$", "", name)


@pytest.mark.parametrize("file", [FILE, ROOT / "deploy" / "prometheus" / "alerts.yml"], ids=lambda file: file.name)
def test_rules_and_panels_name_what_exists(file: Path) -> None:
    """Every metric that an alert or a panel asks for is one of ours."""
    names = set(names_in(file.read_text()))

    assert names
    assert names <= METRICS.keys()


def test_everything_is_fed() -> None:
    """Each figure that is counted is counted somewhere: in a move of lua/, or by a process."""
    lua = "".join(path.read_text() for path in (ROOT / "lua").glob("*.lua"))
    python = "".join(
        path.read_text() for folder in (".", "api", "executor") for path in sorted((ROOT / folder).glob("*.py"))
    )
    fed = {*re.findall(r"(?:meter|observe)\('(\w+)", lua), "leases_lost", "stale_writes_refused"}  # see Exposition
    fed |= set(re.findall(r"tally\.(?:count|observe),? ?\(?\s*\"(\w+)\"", python))

    assert fed == {name for name, metric in METRICS.items() if metric.kind != "gauge"}


def test_every_gauge_has_a_value(store: Store) -> None:
    """With a worker, a job and an endpoint no gauge is without a sample."""
    store.heartbeat("host:1", 1)
    job = claimed(store)
    store.finish(job.id, job.fence, SUCCESS)
    seen = exposed(store)

    assert {name for name, metric in METRICS.items() if metric.kind == "gauge"} <= seen.keys()


def test_a_lost_worker_is_a_retry(redis_url: str) -> None:
    """An attempt that lost its worker and is followed by another is counted as such."""
    store = Store(redis_url, lease_ms=50)
    claimed(store)
    deadline = time.monotonic() + 5
    while store.claim("host:2").job is None:
        assert time.monotonic() < deadline
    seen = exposed(store)
    store.close()

    assert seen["job_retries_total"] == {"reason=worker_lost": 1}


def test_the_dashboard_is_current() -> None:
    """The file is what its script writes."""
    assert FILE.read_text() == json.dumps(dashboard(), indent=1) + "\n"
