"""Uploads into a Convex storage that misbehaves: what is chosen, noted, repeated and given up."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import delivery as courier_module
import uploads
import webhook
from artifacts import Shelf
from delivery import Courier
from errors import LeaseLost
from events import Delivery, Endpoint
from jobs import OutputChunk
from payload import Form
from store import Store
from submission import Options
from tests.store_cases import SUCCESS, next_job, request
from tests.test_delivery import only
from uploads import Uploads, What
from webhook import Sender

SECRET = webhook.new_secret()
PATHS = {"result": "/r", "progress": "/p", "upload": "/u"}


@dataclass
class Convex:
    """A receiver with storage. `urls` answers a request for uploads, `storage` an upload; both may be replaced."""

    url: str = ""
    asked: list[list[dict[str, Any]]] = field(default_factory=list)
    stored: list[tuple[str, bytes]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def urls(self, files: list[dict[str, Any]]) -> tuple[int, Any]:
        """The answer to a request for uploads."""
        return 200, {"uploads": [{"path": each["path"], "url": self.url_of(n)} for n, each in enumerate(files)]}

    def url_of(self, number: int) -> str:
        """An upload URL as a deployment gives it that knows itself under another name."""
        return f"https://elsewhere.example/api/storage/upload?token={number}"

    def storage(self, digest: str, content: bytes) -> tuple[int, Any]:
        """The answer to an upload."""
        if digest != "sha-256=" + base64.b64encode(hashlib.sha256(content).digest()).decode():
            return 400, {"code": "Sha256Mismatch"}
        self.stored.append((f"id{len(self.stored)}", content))
        return 200, {"storageId": self.stored[-1][0]}

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """What a request is answered."""
        if path == "/u":
            webhook.verify([SECRET], headers, body, float(headers["webhook-timestamp"]))
            self.asked.append(json.loads(body)["files"])
            return self.urls(self.asked[-1])
        if path.startswith("/api/storage/upload?token="):
            assert headers["content-type"] == webhook.FILE_TYPE
            return self.storage(headers["digest"], body)
        self.results.append(json.loads(body))
        return 200, {}


@pytest.fixture
def convex() -> Iterator[Convex]:
    with receiving() as made:
        yield made


@contextlib.contextmanager
def receiving() -> Iterator[Convex]:
    """A receiver with storage on a free port."""
    made = Convex()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            status, answer = made.answer(self.path, headers, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are milliseconds, and a courier ends soon."""
    monkeypatch.setattr(webhook, "RETRY_DELAYS_S", (0.005,) * 9)
    monkeypatch.setattr(courier_module, "LONGEST_WAIT_S", 0.05)


def ended_with(store: Store, shelf: Shelf, files: dict[str, bytes], chunks: tuple[OutputChunk, ...] = ()) -> str:
    job = store.submit(request(), Options(webhook=("default",))).job
    fence = next_job(store).fence
    with shelf.open(job.id, fence) as writer:
        kept = tuple(writer.keep(path, [content]) for path, content in files.items())
    store.append_log(job.id, fence, chunks)
    store.finish(job.id, fence, replace(SUCCESS, artifacts=kept))
    return job.id


def endpoint(convex: Convex) -> Endpoint:
    return Endpoint(convex.url, (SECRET,), PATHS, storage=convex.url)


def told(convex: Convex, store: Store, shelf: Shelf, job_id: str, what: What = "artifacts") -> dict[str, Any]:
    """The body of the result that is accepted at last."""
    courier = Courier(store, {"default": endpoint(convex)}, Form(), Uploads(store, shelf, what))
    courier.start()
    try:
        only(store, job_id, "accepted")
    finally:
        courier.stop(5)
    return convex.results[-1]


def claimed(store: Store) -> Delivery:
    (delivery,), _ = store.claim_deliveries("default", 1, 30_000)
    return delivery


def test_files_go_to_the_deployment_of_the_settings(convex: Convex, store: Store, shelf: Shelf) -> None:
    """Files go where the settings say, whatever name the deployment has for itself, and the result names them."""
    body = told(convex, store, shelf, ended_with(store, shelf, {"ä/b.js": b"1", "empty": b""}))

    assert convex.stored == [("id0", b"1"), ("id1", b"")]
    assert [(each["path"], each["storageId"], "href" in each) for each in body["artifacts"]] == [
        ("ä/b.js", "id0", False),
        ("empty", "id1", False),
    ]


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "file:///etc/passwd", "", "/api/storage/upload", "http://[x", "https://x/?t"],
)
def test_other_addresses_are_not_called(url: str) -> None:
    """What is no upload URL of Convex is refused before anything is sent."""
    there = Endpoint("http://127.0.0.1:1", (SECRET,), PATHS, storage="http://127.0.0.1:1")
    with contextlib.closing(Sender(there)) as sender, pytest.raises(ValueError, match=r"upload URL|Invalid IPv6"):
        sender.upload(url, io.BytesIO(b""), 0, "00")


@pytest.mark.parametrize(
    "answer",
    [{}, {"uploads": []}, {"uploads": [{}, {}]}, [], "x", {"uploads": [{"url": "https://evil.example/x"}] * 2}],
)
def test_unusable_urls(convex: Convex, store: Store, shelf: Shelf, answer: Any) -> None:
    """A result does not wait for a receiver whose answer has no upload URLs."""
    convex.urls = lambda files: (200, answer)  # type: ignore[method-assign]

    body = told(convex, store, shelf, ended_with(store, shelf, {"a": b"1", "b": b"2"}))

    assert (len(convex.asked), convex.stored) == (1, [])
    assert all("href" in each for each in body["artifacts"])


@pytest.mark.parametrize("status", [404, 500, 400, 410])
def test_receiver_without_uploads(convex: Convex, store: Store, shelf: Shelf, status: int) -> None:
    """A receiver that gives out no upload URLs gets its results: at once, or at the second try if that may pass."""
    convex.urls = lambda files: (status, {})  # type: ignore[method-assign]

    body = told(convex, store, shelf, job_id := ended_with(store, shelf, {"a": b"1"}))

    tries = only(store, job_id, "accepted").tries
    assert len(tries) == (2 if status in {404, 500} else 1)
    assert "storageId" not in body["artifacts"][0]
    assert not store.lanes()["default"].disabled_ms


def test_answer_without_an_id(convex: Convex, store: Store, shelf: Shelf) -> None:
    """An upload whose answer has no storage id counts as none."""
    convex.storage = lambda digest, content: (200, ["?"])  # type: ignore[method-assign]

    body = told(convex, store, shelf, ended_with(store, shelf, {"a": b"1"}))

    assert "storageId" not in body["artifacts"][0]


def test_nothing_is_stored_twice(convex: Convex, store: Store, shelf: Shelf) -> None:
    """A sender that dies after some files leaves to the next one only those that are missing."""
    job_id = ended_with(store, shelf, {"a": b"1", "b": b"2", "c": b"3"})
    dying = claimed(store)
    store.hold_delivery(dying, 0, "b", "known")

    body = told(convex, store, shelf, job_id)

    assert [each["path"] for each in convex.asked[0]] == ["a", "c"]
    assert [content for _, content in convex.stored] == [b"1", b"3"]
    assert {each["path"]: each["storageId"] for each in body["artifacts"]} == {"a": "id0", "b": "known", "c": "id1"}


def test_lost_lease(convex: Convex, store: Store, shelf: Shelf) -> None:
    """A sender whose delivery was taken over stops; what it stored is known to the other one."""
    job_id = ended_with(store, shelf, {"a": b"1", "b": b"2"})
    slow = claimed(store)
    at_once: Callable[..., Any] = convex.storage

    def take_over(digest: str, content: bytes) -> tuple[int, Any]:
        store._redis.hset(f"cw:delivery:{slow.id}", "fence", 7)
        return at_once(digest, content)  # type: ignore[no-any-return]

    convex.storage = take_over  # type: ignore[method-assign]
    with contextlib.closing(Sender(endpoint(convex))) as sender, pytest.raises(LeaseLost):
        Uploads(store, shelf, "artifacts").bring(sender, store.get(job_id), slow, 30_000)

    assert store.stored_files(slow) == {"a": "id0"}


def test_a_long_upload_keeps_its_delivery(convex: Convex, store: Store, shelf: Shelf) -> None:
    """While a file is on its way the delivery has time for that, and its usual lease afterwards."""
    job_id = ended_with(store, shelf, {"a": b"1"})
    mine = claimed(store)
    at_once: Callable[..., Any] = convex.storage
    left: list[float] = []

    def look(digest: str, content: bytes) -> tuple[int, Any]:
        left.append(lease_left_s(store, mine))
        return at_once(digest, content)  # type: ignore[no-any-return]

    convex.storage = look  # type: ignore[method-assign]
    with contextlib.closing(Sender(endpoint(convex))) as sender:
        Uploads(store, shelf, "artifacts").bring(sender, store.get(job_id), mine, 30_000)

    assert left[0] > webhook.UPLOAD_DEADLINE_S
    assert 20 < lease_left_s(store, mine) <= 30


def lease_left_s(store: Store, delivery: Delivery) -> float:
    until = float(store._redis.zscore("cw:posting:default", delivery.id))
    seconds, micros = map(int, store._redis.time())
    return until / 1_000 - seconds - micros / 1e6


def test_what_was_stored_is_forgotten(convex: Convex, store: Store, shelf: Shelf) -> None:
    """What was stored is known for six days, a day less than the receiver keeps it, or until its job is removed."""
    job_id = ended_with(store, shelf, {"a": b"1"})
    told(convex, store, shelf, job_id)
    name = f"cw:stored:{only(store, job_id, 'accepted').delivery.id}"

    assert 5 * 86_400 < store._redis.ttl(name) <= 6 * 86_400
    store.remove(job_id)
    assert not store._redis.exists(name)


def test_what_is_uploaded(convex: Convex, store: Store, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files beyond the bounds, and such as have no name that can be told, are left out; all others are uploaded."""
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(uploads, "MAX_BYTES", 250)
    monkeypatch.setattr(uploads, "MAX_FILES", 4)
    sizes = {"large": 101, "first": 100, "half \ud800": 1, "second": 100, "over": 51, "third": 50, "e": 0, "more": 0}
    job_id = ended_with(store, shelf, {path: path[:1].encode() * size for path, size in sizes.items()})

    body = told(convex, store, shelf, job_id)

    assert [each["path"] for each in convex.asked[0]] == ["first", "second", "third", "e"]
    assert body["artifactCount"] == len(sizes) == len(body["artifacts"])


def test_log(convex: Convex, store: Store, shelf: Shelf) -> None:
    """The log is one file with all that is kept of it; where lines are missing it says so."""
    chunks = (
        OutputChunk(0, 2, 1, "building", "stdout", "one\ntwo ☃\n"),
        OutputChunk(1_002, 1, 2, "building", "stderr", "last\n", dropped_lines=1_000, dropped_bytes=9_000),
    )
    job_id = ended_with(store, shelf, {"a": b"1"}, chunks)

    body = told(convex, store, shelf, job_id, "log")

    ((_, content),) = convex.stored
    assert content.decode() == ("one\ntwo ☃\n[1,000 lines are missing here: the log was too long to keep them]\nlast\n")
    sha256 = hashlib.sha256(content).hexdigest()
    assert body["logFile"] == {"path": "job.log", "size": len(content), "sha256": sha256, "storageId": "id0"}
    assert "href" in body["artifacts"][0]


def test_room_for_what_was_stored(convex: Convex, store: Store, shelf: Shelf) -> None:
    """A result has room for as many stored files as are uploaded, with ids and names as long as usual."""
    files = {f"dist/assets/component-{number:04d}.js": b"x" for number in range(uploads.MAX_FILES + 10)}
    job_id = ended_with(store, shelf, files, (OutputChunk(0, 1, 1, "building", "stdout", "x" * 60_000 + "\n"),))
    convex.storage = lambda digest, content: (200, {"storageId": "k" * 32})  # type: ignore[method-assign]

    body = told(convex, store, shelf, job_id)

    assert sum("storageId" in each for each in body["artifacts"]) == uploads.MAX_FILES
    assert len(json.dumps(body, separators=(",", ":"))) <= 20_000
    assert len(body["output"]) > 500
