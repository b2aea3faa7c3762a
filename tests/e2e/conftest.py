"""One whole service for all end-to-end tests: gunicorn, huey_consumer, Redis, Docker, and a receiver of webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import config
import stack
from stack import Stack
from tests.conftest import private_redis

COMMAND_TIMEOUT_S = 15


@dataclass(frozen=True)
class Client:
    """What a caller of the service does, in the tests' words."""

    service: Stack

    def submit(self, files: Mapping[str, str], **data: Any) -> str:
        """POST a build job; its id."""
        body = {"type": "build", "data": {"chatId": "chat-1", "projectFiles": dict(files), **data}}
        answer = requests.post(f"{self.service.url}/api/jobs", json=body, timeout=10)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["jobId"])

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET below /api/jobs/."""
        return requests.get(f"{self.service.url}/api/jobs/{path}", timeout=30, **options)

    def ended(self, job_id: str, seconds: float = 90) -> dict[str, Any]:
        """The record once the job has ended."""
        record = self.wait(lambda: self._if_final(job_id), seconds, f"end of {job_id}")
        return dict(record)

    def run(self, files: Mapping[str, str], **data: Any) -> dict[str, Any]:
        """Submit and wait for the end."""
        return self.ended(self.submit(files, **data))

    def webhooks(self, job_id: str) -> list[dict[str, Any]]:
        """The result events that the receiver accepted for a job, once there is one."""

        def results() -> list[dict[str, Any]]:
            events = [event for event in list(self.service.events) if event["body"]["jobId"] == job_id]
            return [event for event in events if "conclusion" in event["body"]]

        return list(self.wait(results, 15, f"webhook of {job_id}"))

    def wait(self, found: Callable[[], Any], seconds: float, what: str) -> Any:
        """Wait until `found()` is true and return it."""
        deadline = time.monotonic() + seconds
        while not (value := found()):
            self.service.check()
            assert time.monotonic() < deadline, f"no {what} within {seconds} s"
            time.sleep(0.1)
        return value

    def _if_final(self, job_id: str) -> dict[str, Any] | None:
        record = self.get(job_id).json()
        return record if record["status"] in {"completed", "failed"} else None


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service on free ports, with a Redis and data of its own."""
    folder = tmp_path_factory.mktemp("service")
    with private_redis() as redis_url:
        settings = config.load(
            {
                "REDIS_URL": redis_url,
                "DATA_DIR": str(folder),
                "MAX_CONCURRENT_WORKERS": "2",
                "COMMAND_TIMEOUT": str(COMMAND_TIMEOUT_S * 1000),
                "DEPENDENCY_CACHE_BYTES": "0",  # nor at what would stay on this machine
                "RESULT_CACHE_HOURS": "0",  # tests look at runs, not at what is known of them
            }
        )
        with stack.running(settings, print, port=0, log=folder / "service.log") as running:
            yield running
    print((folder / "service.log").read_text()[-4000:])


@pytest.fixture
def client(service: Stack) -> Client:
    """A caller of the running service."""
    return Client(service)


def example(name: str) -> dict[str, str]:
    """The files of an example project."""
    root = Path(__file__).parents[2] / "examples" / name
    made = {"node_modules", "dist"}
    files = [path for path in root.rglob("*") if path.is_file() and not made & set(path.parts)]
    return {str(path.relative_to(root)): path.read_text() for path in files}
