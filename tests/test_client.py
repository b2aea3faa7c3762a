"""The Python client against a running API: submit, follow through cuts, wait, read logs and files."""

from __future__ import annotations

import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import Shelf
from client.chef_workers import ChefWorkers, Event, Refused, submission
from jobs import Job
from store import Store
from tests.api_cases import FILES, finish
from tests.server_cases import Server, running_server
from tests.store_cases import SUCCESS, lines

PROJECT = {"index.html": "<h1>hi</h1>"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    opened = Store(server.redis_url)
    opened._redis.flushall()
    yield opened
    opened.close()


@pytest.fixture
def workers(server: Server) -> ChefWorkers:
    return ChefWorkers(f"http://127.0.0.1:{server.port}", tries=3)


def claim(store: Store) -> Job:
    job = store.claim("w").job
    assert job
    return job


def test_submit_and_wait(store: Store, workers: ChefWorkers) -> None:
    """A job is handed in once however often its key is sent, and waited for until it has ended."""
    first = workers.submit("build", PROJECT, key="k", chatId="c", options={"tags": ["t"]})
    again = workers.submit("build", PROJECT, key="k", chatId="c", options={"tags": ["t"]})
    job = claim(store)
    threading.Timer(0.2, lambda: store.finish(job.id, job.fence, SUCCESS)).start()

    ended = workers.wait(first["jobId"], 10)

    assert first["jobId"] == again["jobId"] == job.id
    assert (ended["status"], ended["conclusion"], ended["tags"]) == ("completed", "success", ["t"])


def test_wait_that_is_too_short(store: Store, workers: ChefWorkers) -> None:
    """Waiting for a job that does not end in time is a TimeoutError."""
    job = workers.submit("build", PROJECT)

    with pytest.raises(TimeoutError):
        workers.wait(job["jobId"], 0.5)


def test_refusal(store: Store, workers: ChefWorkers) -> None:
    """What the service refuses is raised with its code and all its mistakes."""
    with pytest.raises(Refused) as caught:
        workers.submit("build", {"/etc/passwd": ""}, key="x")

    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert caught.value.problem["errors"][0]["pointer"] == "#/data/projectFiles/~1etc~1passwd"


def test_many(store: Store, workers: ChefWorkers) -> None:
    """A batch is handed in, and found again over several pages and by filters."""
    results = workers.submit_many([submission("lint", PROJECT, {"tags": [f"t{n}"]}) for n in range(5)])

    ids = [result["job"]["jobId"] for result in results]
    assert [job["jobId"] for job in workers.jobs(type="lint", limit=2)] == ids[::-1]
    assert [job["jobId"] for job in workers.jobs(tag=["t3"], fields="jobId")] == [ids[3]]
    cancelled = workers.cancel(ids[0], "not needed")
    assert (cancelled["status"], cancelled["message"]) == ("failed", "not needed")
    assert workers.rerun(ids[0])["status"] == "pending"
    workers.remove(ids[0])
    with pytest.raises(Refused):
        workers.get(ids[0])


class Cutter:
    """A proxy that passes at most `allowed` bytes of each answer on, then cuts the connection."""

    def __init__(self, target: int, allowed: int) -> None:
        self._target, self._allowed = target, allowed
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._target), timeout=10) as server:
                server.sendall(client.recv(65536))
                left = self._allowed
                while left > 0 and (data := server.recv(left)):
                    client.sendall(data)
                    left -= len(data)
                self.cuts += left <= 0


def test_events_through_cuts(server: Server, store: Store, workers: ChefWorkers) -> None:
    """Events come complete and once although the connection is cut in the middle of them, again and again."""
    workers.submit("build", PROJECT)
    job = claim(store)
    for number in range(20):
        store.append_log(job.id, job.fence, [lines(number, f"line {number}\n")])
    store.finish(job.id, job.fence, SUCCESS)
    cutter = Cutter(server.port, 1_900)
    cut_off = ChefWorkers(f"http://127.0.0.1:{cutter.port}")

    events = list(cut_off.events(job.id))
    cutter.listener.close()

    assert cutter.cuts >= 2
    assert [shown(event) for event in events] == [shown(event) for event in workers.events(job.id)]
    assert "".join(event.data["text"] for event in events if event.kind == "log") == workers.log(job.id)
    assert workers.log(job.id, tail=1) == "line 19\n"


def shown(event: Event) -> tuple[str, object]:
    return event.kind, event.data


def test_files(server: Server, store: Store, workers: ChefWorkers, tmp_path: Path) -> None:
    """Files come one by one, or all as an archive."""
    workers.submit("build", PROJECT)
    job = finish(store, Shelf(server.folder / "data"), claim(store), FILES)
    workers.save_artifacts(job.id, tmp_path / "all.tar.gz")

    assert {file["path"]: workers.artifact(job.id, file["path"]) for file in workers.artifacts(job.id)} == FILES
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert set(archive.getnames()) == set(FILES)
    assert workers.get(job.id, log=True)["logs"]["text"] == ""
