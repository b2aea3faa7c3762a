"""/metrics of the whole service while it works."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
JOBS = 6


def value(client: Client, name: str, **labels: str) -> float:
    """One figure, as Prometheus reads it; 0 if it has no value yet."""
    text = requests.get(f"{client.service.url}/metrics", timeout=10).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


def test_figures_under_load(client: Client) -> None:
    """While jobs run every scrape can be read; afterwards the figures of both processes are there."""
    ended = Figure(lambda: value(client, "chefworkers_jobs_finished_total", type="build", conclusion="success"))
    starts = Figure(lambda: value(client, "chefworkers_container_start_seconds_count"))
    posts = Figure(lambda: value(client, "chefworkers_http_requests_total", route="/api/jobs", status="201"))
    files = {"package.json": '{"scripts": {"build": "mkdir dist && echo made >dist/a.txt"}}'}
    scraped: list[float] = []
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(0.05):
            scraped.append(value(client, "chefworkers_jobs"))

    reader = threading.Thread(target=scrape)
    reader.start()
    try:
        ids = [client.submit(files, chatId=f"metrics-{number}") for number in range(JOBS)]
        for job_id in ids:
            assert client.ended(job_id, 150)["conclusion"] == "success"
    finally:
        stop.set()
        reader.join()

    assert len(scraped) > 3
    assert ended.grown == JOBS
    client.wait(
        lambda: posts.grown >= JOBS and starts.grown >= JOBS, 20, "what the processes hand in every few seconds"
    )


class Figure:
    """A figure that only grows, and by how much it has."""

    def __init__(self, read: Callable[[], float]) -> None:
        """What it is now."""
        self._read = read
        self._before = read()

    @property
    def grown(self) -> float:
        """Since it was made."""
        return self._read() - self._before
