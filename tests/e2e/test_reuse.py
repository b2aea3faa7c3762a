"""The same work again, through the whole service: answered with the earlier result, and with files of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import config
import stack
from tests.conftest import private_redis
from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
BUILD = '{"scripts": {"build": "mkdir dist && date +%N >dist/made.txt"}}'


@pytest.fixture
def caching(tmp_path: Path) -> Iterator[Client]:
    """A service of its own that reuses results."""
    with private_redis() as redis_url:
        variables = {"REDIS_URL": redis_url, "DATA_DIR": str(tmp_path), "DEPENDENCY_CACHE_BYTES": "0"}
        settings = config.load({**variables, "MAX_CONCURRENT_WORKERS": "1"})
        with stack.running(settings, print, port=0, log=tmp_path / "service.log") as running:
            yield Client(running)


def test_the_same_work_again(caching: Client) -> None:
    """The second job has the first one's files, which stay when the first is removed; cache off runs anew."""
    files = {"package.json": BUILD}
    first = caching.run(files, chatId="one")
    again = caching.run(files, chatId="two")
    made = [caching.get(f"{job['jobId']}/artifacts/made.txt").text for job in (first, again)]

    assert again["conclusion"] == "success"
    assert (again["result"]["cached"], again["result"]["cachedFrom"]) == (True, first["jobId"])
    assert made[0] == made[1] != ""
    assert "did the same work" in caching.get(f"{again['jobId']}/logs").text
    requests.delete(f"{caching.service.url}/api/jobs/{first['jobId']}", timeout=10).raise_for_status()
    assert caching.get(f"{again['jobId']}/artifacts/made.txt").text == made[1]

    anew = caching.run(files, chatId="three")
    assert "cached" not in anew["result"]
    body = {"type": "build", "cache": "off", "data": {"projectFiles": files}}
    refused = requests.post(f"{caching.service.url}/api/jobs", json=body, timeout=10).json()["jobId"]
    assert "cached" not in caching.ended(refused)["result"]
