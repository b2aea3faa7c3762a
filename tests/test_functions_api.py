"""Named functions over HTTP, in process: their jobs are played by the test, and the trees are on a real disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import config
from api.watch import Crowded, Watch
from app import create_app
from artifacts import Shelf
from errors import QueueFull
from jobs import Call, Conclusion, Job, Quota, Reason, Request, Result, Status
from store import Store, Submitted
from submission import Options
from tests.api_cases import UNKNOWN, Client
from tests.store_cases import next_job
from versions import Versions

PUT = {"runtime": "node", "handler": "index.handler", "files": {"index.mjs": "code"}}
GOOD = Result(Conclusion.SUCCESS, detail={"function": {"value": 7, "durationMs": 1.0}})
BAD = Result(Conclusion.FAILURE, Reason.FUNCTION_FAILED, "no such module")


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    """The API, for at most two functions."""
    settings = config.load({"DATA_DIR": str(tmp_path), "MAX_FUNCTIONS": "2", "KEEP_FUNCTION_VERSIONS": "2"})
    return Client(create_app(settings, store, Shelf(tmp_path / "artifacts"), store.submit))


@pytest.fixture
def versions(store: Store, tmp_path: Path) -> Versions:
    """What the worker has."""
    return Versions(store, Shelf(tmp_path / "functions"), Quota(), tree_bytes=1_000)


def make(store: Store, versions: Versions, result: Result = GOOD) -> Job:
    """Be the worker for the one job that waits, which makes a version."""
    job = next_job(store)
    call = store.request(job.id).call
    assert call is not None
    assert call.makes_version
    if result.conclusion is Conclusion.SUCCESS:
        result = Result(Conclusion.SUCCESS, artifacts=(versions.writer(job).keep("tree.tar", [b"tree"]),))
    store.finish(job.id, job.fence, versions.settled(job, call, result))
    return job


def trees(tmp_path: Path) -> int:
    return sum(path.is_file() for path in (tmp_path / "functions").rglob("*"))


def test_put_has_a_version_made(api: Client, store: Store, versions: Versions) -> None:
    """A version is answered with its job, which has the code; the record of the version has none."""
    answer = api.put_json("/api/functions/days", {**PUT, "env": {"KEY": "secret-value"}})

    assert answer.status_int == 202
    assert {name: answer.json[name] for name in ("name", "version", "state", "bytes")} == {
        "name": "days", "version": 1, "state": "making", "bytes": None
    }  # fmt: skip
    request = store.request(answer.json["jobId"])
    assert request.files == {"index.mjs": "code"}
    assert request.call == Call("node", "index.mjs", "handler", name="days", version=1)
    assert make(store, versions).id == answer.json["jobId"]
    shown = api.get("/api/functions/days")
    assert (shown.json["current"], shown.json["versions"][0]["state"], shown.json["versions"][0]["bytes"]) == (
        1, "ready", 4
    )  # fmt: skip
    assert "secret-value" not in shown.text
    assert store.function("days").versions[0].request.files == {}


def test_invoke(api: Client, store: Store, versions: Versions) -> None:
    """A call is a job with the version's tree, variables and limits, and no code."""
    api.put_json("/api/functions/days", {**PUT, "env": {"A": "1"}, "timeoutMs": 3000})
    made = make(store, versions)

    answer = api.post_json("/api/functions/days/invoke", {"event": {"n": 1}, "chatId": "c"})

    assert answer.status_int == 202
    assert answer.json["function"] == {"name": "days", "version": 1}
    assert answer.headers["Location"] == f"/api/jobs/{answer.json['jobId']}"
    request = store.request(answer.json["jobId"])
    assert (request.files, request.env, request.limits, request.chat_id) == ({}, {"A": "1"}, {"command_s": 3.0}, "c")
    assert request.call is not None
    assert (request.call.event, request.call.version) == ({"n": 1}, 1)
    assert request.call.package is not None
    assert request.call.package.job_id == made.id
    assert [bytes(block) for block in versions.tree(request.call)] == [b"tree"]


def test_invoke_and_wait(api: Client, store: Store, versions: Versions) -> None:
    """With ?wait= the answer is the record, once the job has ended; if it has not in time, its id."""
    api.put_json("/api/functions/days", PUT)
    make(store, versions)

    began = time.monotonic()
    late = api.post("/api/functions/days/invoke?wait=1")
    assert (late.status_int, late.json["status"]) == (202, "pending")
    assert time.monotonic() - began >= 1
    store.cancel(late.json["jobId"])

    def work() -> None:
        deadline = time.monotonic() + 20
        while (job := store.claim("w").job) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        store.finish(job.id, job.fence, GOOD)

    worker = threading.Thread(target=work)
    worker.start()
    answer = api.post_json("/api/functions/days/invoke?wait=20", {"event": 1})
    worker.join()

    assert answer.status_int == 200
    assert (answer.json["status"], answer.json["result"]["function"]["value"]) == ("completed", 7)


def test_too_many_wait(api: Client, store: Store, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all places to wait are taken, a call is answered at once with its job."""
    api.put_json("/api/functions/days", PUT)
    make(store, versions)

    def full(_: Watch, seconds: int) -> None:
        raise Crowded(f"no place for {seconds} s")

    monkeypatch.setattr(Watch, "place", full)
    began = time.monotonic()
    answer = api.post("/api/functions/days/invoke?wait=50")

    assert (answer.status_int, answer.json["status"]) == (202, "pending")
    assert time.monotonic() - began < 25


def test_two_calls_are_two_jobs_unless_they_are_one(api: Client, store: Store, versions: Versions) -> None:
    """Equal calls are different jobs; the same Idempotency-Key is the same one, and with another event a conflict."""
    api.put_json("/api/functions/days", PUT)
    make(store, versions)

    def call(event: int, **headers: str) -> Any:
        return api.post_json("/api/functions/days/invoke", {"event": event}, headers=headers, expect_errors=True)

    assert call(1).json["jobId"] != call(1).json["jobId"]
    key = {"Idempotency-Key": "k"}
    assert call(1, **key).json["jobId"] == call(1, **key).json["jobId"]
    assert call(2, **key).json["code"] == "idempotency_conflict"


def test_nothing_to_call(api: Client, store: Store, versions: Versions) -> None:
    """A function whose version is being made, or could not be, says so."""
    api.put_json("/api/functions/days", PUT)

    making = api.post("/api/functions/days/invoke", status=409).json
    make(store, versions, BAD)
    failed = api.post("/api/functions/days/invoke", status=409).json

    assert (making["code"], "version 1 is making" in making["detail"]) == ("function_not_ready", True)
    assert "version 1 is failed: no such module" in failed["detail"]
    (version,) = api.get("/api/functions/days").json["versions"]
    assert (version["state"], version["reason"]) == ("failed", "function_failed")


def test_version_whose_job_was_removed(api: Client, store: Store, versions: Versions) -> None:
    """What became of a version is known even when its job has been forgotten."""
    job_id = api.put_json("/api/functions/days", PUT).json["jobId"]
    make(store, versions, BAD)
    store.remove(job_id)

    (version,) = api.get("/api/functions/days").json["versions"]

    assert version["state"] == "failed"


def test_roll_back(api: Client, store: Store, versions: Versions) -> None:
    """Calls go to the version that was rolled back to."""
    for _ in range(2):
        api.put_json("/api/functions/days", PUT)
        make(store, versions)

    assert api.post_json("/api/functions/days/rollback", {"version": 1}).json["current"] == 1
    assert api.post("/api/functions/days/invoke").json["function"]["version"] == 1


@pytest.mark.parametrize("body", [{}, {"version": "1"}, {"version": 0}, {"version": True}, {"version": 1, "x": 1}])
def test_roll_back_to_nothing(api: Client, body: dict[str, Any]) -> None:
    """A version is a whole number, alone in its body."""
    answer = api.post_json("/api/functions/days/rollback", body, status=400)

    assert answer.json["errors"][0]["pointer"] == "#/version"


def test_list_and_remove(api: Client, store: Store, versions: Versions, tmp_path: Path) -> None:
    """Functions are listed by name with what is called; a removed one is gone with its files."""
    for name in ("b", "a"):
        api.put_json(f"/api/functions/{name}", PUT)
        make(store, versions)
    listed = api.get("/api/functions").json
    assert [(each["name"], each["current"], each["handler"]) for each in listed["functions"]] == [
        ("a", 1, "index.handler"), ("b", 1, "index.handler")
    ]  # fmt: skip
    assert trees(tmp_path) == 2

    assert api.delete("/api/functions/a").status_int == 204

    assert trees(tmp_path) == 1
    assert api.get("/api/functions/a", status=404).json["code"] == "function_not_found"


def test_old_versions_go_with_their_files(api: Client, store: Store, versions: Versions, tmp_path: Path) -> None:
    """So many versions are kept, on the disk as well."""
    for _ in range(4):
        api.put_json("/api/functions/days", PUT)
        make(store, versions)

    assert [version["version"] for version in api.get("/api/functions/days").json["versions"]] == [4, 3]
    assert trees(tmp_path) == 2


def test_too_many_functions(api: Client, store: Store, versions: Versions) -> None:
    """Beyond the bound a new name is refused; a new version of an old one is not."""
    for name in ("a", "b", "a"):
        api.put_json(f"/api/functions/{name}", PUT)
        make(store, versions)

    assert api.put_json("/api/functions/c", PUT, status=409).json["code"] == "function_quota"


def test_job_that_is_not_taken_in(store: Store, tmp_path: Path) -> None:
    """A version whose job is refused is not kept."""

    def refuse(request: Request, options: Options) -> Submitted:
        raise QueueFull("full")

    api = Client(create_app(config.load({"DATA_DIR": str(tmp_path)}), store, Shelf(tmp_path / "artifacts"), refuse))

    assert api.put_json("/api/functions/days", PUT, status=429).json["code"] == "queue_full"
    assert store.functions() == []


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a" * 65, "a.b", "%C3%A4", "a%2Fb", "a%0Ab"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/invoke")])
def test_names(api: Client, name: str, method: str, path: str) -> None:
    """What cannot be a name is answered 404 everywhere, whatever comes with it."""
    address = f"/api/functions/{name}{path}"

    answer = (
        api.put_json(address, PUT, status=404) if method == "PUT" else api.request(address, method=method, status=404)
    )

    assert answer.json["code"] in {"function_not_found", "not_found"}
    assert api.get("/api/functions").json["functions"] == []


def test_unknown_function(api: Client) -> None:
    """A function that is not there has nothing."""
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
        answer = api.request(f"/api/functions/nobody{path}", method=method, status=404)
        assert answer.json["code"] == "function_not_found"
    assert api.post_json("/api/functions/nobody/rollback", {"version": 1}, status=404)


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "wait=1.5"])
def test_waiting_too_long(api: Client, query: str) -> None:
    """Waiting has a bound, and is said in whole seconds."""
    answer = api.post(f"/api/functions/days/invoke?{query}", status=400)

    assert answer.json["errors"][0]["pointer"] == "?wait"


def test_function_with_its_code(api: Client, store: Store) -> None:
    """POST /api/jobs takes a function as a job of its own queue."""
    job_id = api.post_json("/api/jobs", {"type": "function", "data": {**PUT, "event": 1}}).json["jobId"]

    assert store.get(job_id).queue == "functions"
    assert store.get(job_id).status is Status.PENDING
    assert api.get("/api/stats").json["queues"]["functions"]["waiting"] == 1
    assert job_id != UNKNOWN
