"""A worker frozen past its lease: when it wakes up, the job has another owner, and nothing it does counts any more."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import Shelf
from tests.faults.scripted import Plan
from tests.faults.service import Service, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two workers; each test leaves them awake and without a job."""
    with running(workers=2, LEASE_SECONDS="1") as started:
        yield started


def is_frozen(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@pytest.mark.parametrize("write", ["progress", "append_log", "keep", "finish"])
def test_stale_write(service: Service, write: str) -> None:
    """Frozen directly before this write, a run that wakes up late changes neither record, log, files nor webhooks."""
    job = service.add(Plan(freeze=write).request())
    service.started(job.id)
    pid = service.ledger.starts(job.id)[0].pid
    service.until(lambda: is_frozen(pid), 5, "a frozen worker")
    winner = service.ended(job.id)
    service.until(lambda: service.sink.results(job.id), 5, "the webhook")
    log, posts = service.store.log(job.id), len(service.sink.results(job.id))
    refused = service.store.counters().get("stale_refused", 0)

    os.kill(pid, signal.SIGCONT)
    given_up = re.compile(rf"{job.id}: attempt 1 lost its lease|attempt stopped .*attempt=1 job={job.id} why=lost")
    service.until(lambda: given_up.search(service.log_tail()), 10, "the stale run gives up")

    assert winner.status == "completed"
    assert winner.fence == 2
    assert service.store.get(job.id) == winner
    assert service.store.log(job.id) == log
    assert log[-1].text == "said by run 2\n"
    assert len(service.sink.results(job.id)) == posts == 1
    assert service.store.counters()["stale_refused"] > refused
    assert kept_files(service, job.id) == {2: [b"said by run 2"]}
    assert service.settle().reruns == len(service.sent.acknowledged)  # each once


def kept_files(service: Service, job_id: str) -> dict[int, list[bytes]]:
    """Content of the files on the shelf, by the number of the run."""
    root = Path(service.settings["DATA_DIR"]) / "artifacts"
    (artifact,) = service.store.get(job_id).artifacts
    with Shelf(root).open_file(job_id, 2, artifact["sha256"]) as file:
        assert file.read() == b"said by run 2"
    return {int(run.name): [file.read_bytes() for file in run.iterdir()] for run in (root / job_id).iterdir()}
