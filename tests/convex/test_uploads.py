"""Files of jobs on their way into Convex storage: the real courier over real HTTP into the real code of convex/."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import delivery
import uploads
import webhook
from artifacts import Shelf
from delivery import Courier
from events import Endpoint
from jobs import OutputChunk
from payload import Form
from store import Listed, Store
from submission import Options
from tests.convex.conftest import Site
from tests.convex.test_contract import PATHS
from tests.store_cases import SUCCESS, next_job, request
from uploads import Uploads, What

pytestmark = pytest.mark.engine

FILES = {"index.html": b"<p>gr\xc3\xb6\xc3\x9fe</p>", "größe/naïve 🍲.js": b"1;" * 50_000, "empty.txt": b""}


class Service:
    """The parts of the service between the end of a job and Convex."""

    def __init__(self, site: Site, store: Store, folder: Path, what: What) -> None:
        self.site = site
        self.store = store
        self.shelf = Shelf(folder)
        paths = PATHS | {"upload": "/api/v1/hooks/worker-upload"}
        endpoint = Endpoint(site.url, (site.secret,), paths, storage=site.url)
        self.courier = Courier(store, {"default": endpoint}, Form(), Uploads(store, self.shelf, what))

    def end_a_job(self, files: dict[str, bytes], log: str = "") -> str:
        """The id of a job that has just ended with these files and this log, in lines of five bytes."""
        job = self.store.submit(request(), Options(webhook=("default",))).job
        fence = next_job(self.store).fence
        with self.shelf.open(job.id, fence) as writer:
            artifacts = [writer.keep(path, [content]) for path, content in files.items()]
        if log:
            chunk = OutputChunk(0, log.count("\n"), 1, "building", "stdout", log)
            self.store.append_log(job.id, fence, [chunk])
        self.store.finish(job.id, fence, replace(SUCCESS, artifacts=tuple(artifacts)))
        return job.id

    def accepted(self, job_id: str) -> Listed:
        """The delivery of the job's end, once Convex has it."""
        deadline = time.monotonic() + 30
        while True:
            (listed,) = self.store.deliveries_of(job_id)
            if listed.state == "accepted":
                return listed
            assert time.monotonic() < deadline, listed
            time.sleep(0.02)

    def stored(self) -> list[dict[str, Any]]:
        return list(self.site.control("stored"))


@pytest.fixture
def start(
    site: Site, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[What], Service]]:
    """Starts the parts of the service, on a schedule of milliseconds."""
    monkeypatch.setattr(webhook, "RETRY_DELAYS_S", (0.05,) * 9)
    with contextlib.ExitStack() as stack:

        def begin(what: What) -> Service:
            service = Service(site, store, tmp_path / "artifacts", what)
            stack.callback(service.courier.stop, 5)
            service.courier.start()
            return service

        yield begin


def digests(stored: list[dict[str, Any]]) -> list[str]:
    return sorted(base64.b64decode(each["sha256"]).hex() for each in stored)


def sums(*contents: bytes) -> list[str]:
    return sorted(hashlib.sha256(content).hexdigest() for content in contents)


def test_artifacts(start: Callable[[What], Service]) -> None:
    """Each artifact is in storage once, byte for byte, and the job's row links to it; names may be any Unicode."""
    service = start("artifacts")

    service.accepted(service.end_a_job(FILES))

    stored = service.stored()
    assert digests(stored) == sums(*FILES.values())
    assert {each["contentType"] for each in stored} == {webhook.FILE_TYPE}
    linked = {each["path"]: each for each in service.site.job()["artifacts"]}
    assert linked.keys() == FILES.keys()
    assert {each["storageId"] for each in linked.values()} == {each["_id"] for each in stored}
    assert not any("problem" in each for each in linked.values())


def test_log(start: Callable[[What], Service]) -> None:
    """A log of 1 MB is in storage whole, while the webhook holds its end."""
    service = start("log")
    log = "".join(f"{number:07d} ☃ line\n" for number in range(70_000))

    service.accepted(service.end_a_job(FILES, log))

    (stored,) = service.stored()
    assert digests([stored]) == sums(log.encode())
    row = service.site.job()
    assert row["logFile"] == {
        "path": uploads.LOG_PATH,
        "size": len(log.encode()),
        "sha256": hashlib.sha256(log.encode()).hexdigest(),
        "storageId": stored["_id"],
    }
    assert log.removesuffix("\n").endswith(row["output"])


def test_none(start: Callable[[What], Service]) -> None:
    """A job without files, and one without a log, has nothing to upload; its result is told all the same."""
    service = start("artifacts")

    service.accepted(service.end_a_job({}))

    assert (service.stored(), service.site.rows("workerFiles")) == ([], [])
    assert service.site.job()["status"] == "completed"


def test_upload_that_fails_is_repeated(start: Callable[[What], Service]) -> None:
    """When storage refuses a file, the result waits for the next try, which uploads only what is missing."""
    service = start("artifacts")
    service.site.control("faults", words=["", "refuse"])

    listed = service.accepted(service.end_a_job(FILES))

    assert [each["note"] for each in listed.tries] == ["upload: HTTP 503 busy", 'HTTP 200 {"outcome":"applied"}']
    assert digests(service.stored()) == sums(*FILES.values())
    assert all("storageId" in each for each in service.site.job()["artifacts"])


def test_result_does_not_wait_for_ever(start: Callable[[What], Service]) -> None:
    """When storage goes on refusing, the result is told without the files that are missing; they keep their links."""
    service = start("artifacts")
    service.site.control("faults", words=["", *["refuse"] * 20])

    listed = service.accepted(service.end_a_job(FILES))

    assert len(listed.tries) == delivery.UPLOAD_TRIES + 1
    first, *others = service.site.job()["artifacts"]
    assert ("storageId" in first, "href" in first) == (True, False)
    assert [("storageId" in each, "href" in each) for each in others] == [(False, True)] * 2


def test_wrong_sha256(start: Callable[[What], Service]) -> None:
    """A file that changes on its way is refused by its sha256 and not linked; the others are, and the result counts."""
    service = start("artifacts")
    service.site.control("faults", words=["spoil"])

    listed = service.accepted(service.end_a_job(FILES))

    assert len(listed.tries) == 1
    first, *others = service.site.job()["artifacts"]
    assert "storageId" not in first
    assert all("storageId" in each for each in others)
    assert digests(service.stored()) == sums(*list(FILES.values())[1:])


def test_file_that_changed_on_the_disk(start: Callable[[What], Service], tmp_path: Path) -> None:
    """A file that is not what its job made any more, or is gone, is never linked."""
    service = start("artifacts")
    service.courier.stop(5)
    job_id = service.end_a_job(FILES)
    changed, gone = (hashlib.sha256(FILES[name]).hexdigest() for name in ("index.html", "empty.txt"))
    next(tmp_path.rglob(changed)).write_bytes(b"<p>GR\xc3\xb6\xc3\x9fE</p>")
    next(tmp_path.rglob(gone)).unlink()

    other = Service(service.site, service.store, tmp_path / "artifacts", "artifacts")
    other.courier.start()
    other.accepted(job_id)
    other.courier.stop(5)

    linked = {each["path"]: each.get("storageId") for each in other.site.job()["artifacts"]}
    assert [path for path, storage_id in linked.items() if storage_id] == ["größe/naïve 🍲.js"]


def test_lost_answer_leaves_an_orphan_that_is_swept(start: Callable[[What], Service]) -> None:
    """A file whose upload was stored but not answered is stored again; one is linked, the other is swept."""
    service = start("artifacts")
    service.site.control("faults", words=["forget"])

    service.accepted(service.end_a_job({"index.html": b"<p>"}))

    assert len(service.stored()) == 2
    (linked,) = service.site.job()["artifacts"]
    service.site.control("sweep", days=8)
    assert [each["_id"] for each in service.stored()] == [linked["storageId"]]


def test_result_that_is_repeated_uploads_nothing_again(start: Callable[[What], Service]) -> None:
    """A result that Convex gets again names the files that were stored the first time."""
    service = start("artifacts")
    job_id = service.end_a_job(FILES)
    listed = service.accepted(job_id)

    service.store.resend(listed.delivery.id)
    deadline = time.monotonic() + 20
    while len(service.accepted(job_id).tries) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    again = service.accepted(job_id)
    assert again.tries[-1]["note"] == 'HTTP 200 {"outcome":"duplicate"}'
    assert len(service.stored()) == len(FILES)


def test_many_files(start: Callable[[What], Service]) -> None:
    """Of a job with hundreds of files those that a result has room for are uploaded, and no other; all are counted."""
    service = start("artifacts")
    files = {f"assets/chunk-{number:04d}.js": str(number).encode() for number in range(300)}

    service.accepted(service.end_a_job(files))

    row = service.site.job()
    linked = [each for each in row["artifacts"] if "storageId" in each]
    assert len(linked) == len(service.stored()) == uploads.MAX_FILES
    assert row["artifactCount"] == 300
