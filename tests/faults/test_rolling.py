"""Rolling restarts: new API processes and new workers take over under load, and nobody notices."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.faults.client import Client
from tests.faults.scripted import Plan
from tests.faults.service import Service, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]
CALLERS = 4
RELOADS = 3


class Callers:
    """Several that post a job and read it, without a pause; each request on a connection of its own."""

    def __init__(self, service: Service, client: Client) -> None:
        """None calls before started()."""
        self._service = service
        self._client = client
        self._over = threading.Event()
        self.failures: list[str] = []
        self.answers: list[tuple[int, int]] = []

    @contextmanager
    def started(self) -> Iterator[None]:
        """While this lasts they call."""
        threads = [threading.Thread(target=self._call, args=(f"chat-{number}",)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def more(self) -> None:
        """Wait until each has been answered ten times more."""
        enough = len(self.answers) + 10 * CALLERS
        self._service.until(lambda: len(self.answers) >= enough, 30, "more answers")

    def _call(self, chat: str) -> None:
        while not self._over.is_set():
            try:
                taken = self._client.once(Plan(ms=20), chat)
                job_id = taken.json()["jobId"]
                read = requests.get(f"{self._client.url}/api/jobs/{job_id}", timeout=10)
            except requests.RequestException as error:
                self.failures.append(repr(error))
            else:
                self.answers.append((taken.status_code, read.status_code))
                self._service.sent.acknowledged.append(job_id)


def test_replaced_under_load() -> None:
    """Gunicorn reloads three times and each worker is replaced: no request fails, each job ends in its first run."""
    settings = {"SHUTDOWN_GRACE_SECONDS": "10", "SAME_REQUEST_IS_SAME_JOB": "false"}
    with running(workers=2, **settings) as service:
        callers = Callers(service, service.start_api())
        with callers.started():
            old = service.living()
            for turn in range(RELOADS):
                service.api.send_signal(signal.SIGHUP)
                if turn < len(old):
                    service.start_worker()
                    service.signal(old[turn], signal.SIGTERM)
                callers.more()

        assert callers.failures == []
        assert set(callers.answers) == {(201, 200)}
        assert service.settle().reruns == 0
