"""The ways to send a project, over HTTP in process: uploads, forms, snapshots, and the tree of an earlier job."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import config
from app import create_app
from artifacts import Shelf
from jobs import Conclusion, Result
from store import Store
from tests.api_cases import UNKNOWN, Client, client, finish
from tests.archives import nodes, snapshot, tar, tar_gz, zipped
from tests.store_cases import claimed
from tests.test_download import send, server
from tree import Tree

PNG = b"\x89PNG\xff"
FILES = {"package.json": b"{}", "logo.png": PNG}
Parts = Sequence[tuple[str | bytes, ...]]
FORM = {"type": "build", "data": {"command": "true"}}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


def upload(api: Client, archive: bytes, **options: Any) -> Any:
    return api.put("/api/uploads", archive, content_type="application/octet-stream", **options)


def submit(api: Client, status: int = 201, **data: Any) -> Any:
    return api.post_json("/api/jobs", {"type": "build", "data": data}, status=status)


def form(api: Client, parts: Parts, status: int = 201, **headers: str) -> Any:
    """POST a form; a part of two is a field, one of three a file."""
    fields = [part for part in parts if len(part) == 2]
    files = [part for part in parts if len(part) == 3]
    content_type, body = api.encode_multipart(fields, files)
    return posted(api, body, {"Content-Type": content_type, **headers}, status)


def posted(api: Client, body: bytes, headers: dict[str, str], status: int) -> Any:
    """POST these bytes; the client would read a form in its own way."""
    return api.request("/api/jobs", method="POST", body=body, headers=headers, status=status)


def tree_of(store: Store, answer: Any) -> Tree:
    request = store.request(answer.json["jobId"])
    return Tree(request.files, request.binary)


def pointers(answer: Any) -> list[str]:
    return [mistake["pointer"] for mistake in answer.json["errors"]]


# --- uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [tar(FILES), tar_gz(FILES), zipped(FILES), snapshot(nodes(FILES))])
def test_upload_then_job(api: Client, store: Store, archive: bytes) -> None:
    """An upload says what it holds and when it expires; jobs use it by id, as often as they like."""
    kept = upload(api, archive, status=201).json

    assert kept["files"] == 2
    assert kept["projectBytes"] == 7
    assert kept["bytes"] == len(archive)
    assert kept["expiresAt"].endswith("Z")
    for text in ("1", "2"):
        job = submit(api, uploadId=kept["uploadId"], projectFiles={"extra.txt": text})
        assert tree_of(store, job) == Tree.of({**FILES, "extra.txt": text.encode()})


def test_upload_of_mistakes(api: Client, tmp_path: Path) -> None:
    """Mistakes in an archive are told at once, all of them, and nothing is kept."""
    answer = upload(api, tar({"../x": b"", "/y": b"", "ok": b""}), status=400)

    assert pointers(answer) == ["#/..~1x", "#/~1y"]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_upload_too_large(api: Client) -> None:
    """The bound on bodies holds for uploads; a body that is compressed on top is refused."""
    assert upload(api, bytes(102_401), status=413).json["code"] == "body_too_large"
    assert upload(api, b"", headers={"Content-Encoding": "gzip"}, status=415)


def test_expired_upload(api: Client, tmp_path: Path) -> None:
    """An upload that is no more makes a 404 which points to the field."""
    kept = upload(api, tar(FILES)).json
    (file,) = (tmp_path / "uploads").iterdir()
    os.utime(file, (time.time() - 25 * 3600,) * 2)

    answer = submit(api, uploadId=kept["uploadId"], status=404)

    assert answer.json["code"] == "source_not_found"
    assert pointers(answer) == ["#/data/uploadId"]
    assert "24 hours" in answer.json["detail"]


def test_full_uploads(store: Store, shelf: Shelf, tmp_path: Path) -> None:
    """Beyond the quota nothing more is taken, and the answer has the numbers."""
    settings = config.load({"DATA_DIR": str(tmp_path), "UPLOADS_MAX_BYTES": "4k"})
    api = Client(create_app(settings, store, shelf, store.submit))
    upload(api, tar(FILES))

    answer = upload(api, tar(FILES), status=429)

    assert answer.json["code"] == "uploads_full"
    assert "4,096" in answer.json["detail"]


# --- forms ------------------------------------------------------------------------------------------------------------


def test_form(api: Client, store: Store, tmp_path: Path) -> None:
    """One request carries a job and its archive; nothing of it stays among the uploads."""
    job = form(api, [("job", json.dumps(FORM)), ("project", "p.tgz", tar_gz(FILES))])

    assert tree_of(store, job) == Tree.of(FILES)
    assert store.request(job.json["jobId"]).command == "true"
    assert list((tmp_path / "uploads").iterdir()) == []


def test_form_again(api: Client) -> None:
    """The same form within a minute means the same job, although its boundary differs; another archive does not."""
    parts: Parts = [("job", json.dumps(FORM)), ("project", "p.zip", zipped(FILES))]
    first = form(api, parts).json["jobId"]

    assert form(api, parts, status=200).json["jobId"] == first
    assert form(api, [parts[0], ("project", "p.zip", zipped({"a": b""}))]).json["jobId"] != first


@pytest.mark.parametrize(
    ("parts", "pointer"),
    [
        ([("project", "p.zip", zipped(FILES))], "#/job"),
        ([("job", "{}"), ("job", "{}")], "#/job"),
        ([("job", "{}"), ("other", "{}")], "#"),
        ([("job", "x" * 100), ("project", "p.zip", b"PK\3\4")], "#/project"),
        ([("job", json.dumps(FORM)), ("project", "p.tar", tar({"../x": b""}))], "#/project/..~1x"),
        ([("job", json.dumps(FORM))], "#/data/projectFiles"),
        ([("job", "nonsense"), ("project", "p.zip", zipped(FILES))], "#"),
        ([("job", '{"type":"build","data":{"uploadId":"u"}}'), ("project", "p", zipped(FILES))], "#/data/uploadId"),
    ],
)
def test_mistakes_in_forms(api: Client, parts: Parts, pointer: str) -> None:
    """Missing, doubled and unknown parts are named, and so are mistakes inside of them."""
    assert pointers(form(api, parts, status=400))[0] == pointer


@pytest.mark.parametrize(
    "body", [b"", b"x", b"--b\r\n\r\n", b"--b--\r\n", b"--b\r\nContent-Disposition: form-data; name=job\r\n\r\n{}"]
)
def test_broken_forms(api: Client, body: bytes) -> None:
    """What is no form is answered as such."""
    answer = posted(api, body, {"Content-Type": "multipart/form-data; boundary=b"}, 400)

    assert answer.json["code"] in ("body_broken", "invalid_request")


def test_form_of_a_strange_page(api: Client) -> None:
    """A browser sends forms from any page without asking; one from another origin is refused."""
    parts: Parts = [("job", json.dumps(FORM)), ("project", "p.zip", zipped(FILES))]

    assert form(api, parts, status=403, Origin="https://evil.example").json["code"] == "origin_refused"
    assert form(api, parts, status=403, Origin="null")
    assert form(api, parts, Origin="http://localhost:80")


# --- snapshots --------------------------------------------------------------------------------------------------------


def from_place(store: Store, shelf: Shelf, place: str) -> Client:
    settings = config.load({"SNAPSHOT_HOSTS": place, "DATA_DIR": str(shelf._root), "MAX_BODY_BYTES": "11m"})
    return Client(create_app(settings, store, shelf, store.submit))


def test_snapshot_by_address(store: Store, shelf: Shelf) -> None:
    """A job may name a snapshot on a server of the settings; the service fetches it when the job is submitted."""
    with server(send(snapshot(nodes(FILES)))) as place:
        job = submit(from_place(store, shelf, place), snapshotUrl=f"http://{place}/api/storage/1")

    assert tree_of(store, job) == Tree.of(FILES)


def test_snapshot_of_elsewhere(api: Client, store: Store, shelf: Shelf) -> None:
    """Other servers are a mistake, silence and nonsense of the right one are told as what they are."""
    refused = submit(api, snapshotUrl="http://x.example/", status=403)
    assert refused.json["code"] == "source_not_allowed"
    assert "SNAPSHOT_HOSTS" in refused.json["detail"]
    with server(send(b"nonsense")) as place:
        api = from_place(store, shelf, place)
        assert pointers(submit(api, snapshotUrl="http://169.254.169.254/", status=403)) == ["#/data/snapshotUrl"]
        assert "cannot be read" in submit(api, snapshotUrl=f"http://{place}/", status=400).json["detail"]
    answer = submit(api, snapshotUrl=f"http://{place}/", status=502)
    assert answer.json["code"] == "source_unavailable"
    assert pointers(answer) == ["#/data/snapshotUrl"]


# --- earlier jobs -----------------------------------------------------------------------------------------------------


def built(api: Client, store: Store, shelf: Shelf, **detail: Any) -> str:
    """A finished job with a dist of two files."""
    job_id: str = submit(api, projectFiles={"a.txt": "a"}, dependencies={"react": "^19"}).json["jobId"]
    job = claimed(store)
    with shelf.open(job.id, job.fence) as writer:
        kept = (writer.keep("index.html", [b"<p>"]), writer.keep("logo.png", [PNG]))
    store.finish(job.id, job.fence, Result(Conclusion.SUCCESS, artifacts=kept, detail=detail))
    return job_id


@pytest.mark.parametrize(("folder", "prefix"), [("dist", "dist/"), (".", ""), (None, "")])
def test_from_job(api: Client, store: Store, shelf: Shelf, folder: str | None, prefix: str) -> None:
    """A job can go on from an earlier one: its files and packages, and what it made, where it was made."""
    earlier = built(api, store, shelf, outputDir=folder)

    job = api.post_json("/api/jobs", {"type": "test", "data": {"fromJob": earlier, "testCommand": "true"}})

    expected = {"a.txt": b"a", f"{prefix}index.html": b"<p>", f"{prefix}logo.png": PNG}
    assert tree_of(store, job) == Tree.of(expected)
    assert store.request(job.json["jobId"]).dependencies == {"dependencies": {"react": "^19"}}


def test_from_no_job(api: Client, store: Store) -> None:
    """A job that is not there makes a 404, one that has not ended a 409; both point to the field."""
    waiting = submit(api, projectFiles={"a.txt": "a"}).json["jobId"]

    missing, early = submit(api, fromJob=UNKNOWN, status=404), submit(api, fromJob=waiting, status=409)

    assert (missing.json["code"], early.json["code"]) == ("source_not_found", "source_not_ready")
    assert pointers(missing) == pointers(early) == ["#/data/fromJob"]


def test_from_too_large_a_job(api: Client, store: Store, shelf: Shelf) -> None:
    """What an earlier job made counts against the limits of a project."""
    job_id: str = submit(api, projectFiles={"a.txt": "a"}).json["jobId"]
    finish(store, shelf, claimed(store), {"big": bytes(1025)})

    answer = submit(api, fromJob=job_id, status=400)

    assert answer.json["detail"].endswith("fromJob hold 1,025 bytes in all; at most 1,024 are accepted.")


def test_files_of_a_removed_attempt(api: Client, store: Store, shelf: Shelf) -> None:
    """A job whose files went meanwhile is as good as removed."""
    earlier = built(api, store, shelf)
    shelf.remove(earlier)

    assert submit(api, fromJob=earlier, status=404).json["code"] == "source_not_found"
