"""The HTTP API in process: what the routes answer, and what each kind of failure looks like."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import config
from api.answers import PROBLEMS
from app import create_app
from artifacts import Shelf
from errors import LeaseLost, QueueFull
from jobs import JobType, Request
from store import Store, Submitted
from submission import Options
from tests.api_cases import FILES, UNKNOWN, Client, client, finish
from tests.store_cases import claimed

SUBMISSION = {"type": "build", "data": {"projectFiles": {"a.txt": "hi"}}}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


@pytest.fixture
def away(shelf: Shelf) -> Iterator[Client]:
    """The API in front of a Redis that is not there."""
    gone = Store("unix:///nowhere/redis.sock")
    yield client(gone, shelf)
    gone.close()


def failing(store: Store, shelf: Shelf, error: Exception) -> Client:
    """An API whose every submission raises `error`."""

    def fail(_: Request, __: Options) -> Submitted:
        raise error

    return Client(create_app(config.load({}), store, shelf, fail))


def stored_jobs(store: Store) -> int:
    return sum(count for figures in store.stats().values() for count in figures.values())


# --- the routes of the original service -------------------------------------------------------------------------------


def test_about(api: Client) -> None:
    """The root names the service."""
    answer = api.get("/").json

    assert answer.pop("timestamp").endswith("Z")
    assert answer == {"service": "Chef Workers", "version": "0.1.0", "status": "running"}


def test_submission_of_the_original_client(api: Client, store: Store) -> None:
    """What the original client posts is answered with 201 and the four fields that it reads, and is stored."""
    body = {
        "type": "build",
        "priority": 7,
        "data": {
            "chatId": "chat-1",
            "projectFiles": {"index.html": "<p>ü</p>"},
            "dependencies": {"dependencies": {"react": "^18"}, "devDependencies": {}, "peerDependencies": {}},
            "strategy": "docker",
        },
    }

    answer = api.post_json("/api/jobs", body, status=201)

    job = store.get(answer.json["jobId"])
    assert answer.json == {"jobId": job.id, "type": "build", "status": "pending", "createdAt": answer.json["createdAt"]}
    assert answer.headers["Location"] == f"/api/jobs/{job.id}"
    assert (job.priority, job.chat_id) == (7, "chat-1")
    assert store.request(job.id).dependencies == {"dependencies": {"react": "^18"}}


def test_record(api: Client, store: Store, shelf: Shelf) -> None:
    """A job's record comes as it is, without the request."""
    built = finish(store, shelf, claimed(store), FILES)

    answer = api.get(f"/api/jobs/{built.id}").json

    assert answer == json.loads(json.dumps(built.to_json()))
    assert (answer["status"], answer["conclusion"]) == ("completed", "success")


def test_stats(api: Client, store: Store) -> None:
    """Stats count the jobs of each queue by state."""
    claimed(store)
    store.add(Request(JobType.ANALYZE, {"a": ""}))

    queues = api.get("/api/stats").json["queues"]

    assert {name: (counts["waiting"], counts["active"]) for name, counts in queues.items()} == {
        "builds": (0, 1),
        "tests": (0, 0),
        "lint": (1, 0),
        "functions": (0, 0),
    }


def test_head(api: Client, store: Store, shelf: Shelf) -> None:
    """HEAD answers like GET, with the same length and no body."""
    built = finish(store, shelf, claimed(store), FILES)

    for path in ("/", "/livez", f"/api/jobs/{built.id}", f"/api/jobs/{built.id}/artifacts/index.html"):
        head = api.head(path)

        assert head.body == b""
        assert head.headers["Content-Length"] == api.get(path).headers["Content-Length"]


def test_one_round_trip(api: Client, redis_url: str) -> None:
    """A submission is one command to Redis."""
    api.post_json("/api/jobs", SUBMISSION)  # connects, and teaches Redis the script
    client = redis.Redis.from_url(redis_url)
    before = client.info("commandstats")

    api.post_json("/api/jobs", SUBMISSION)

    after = client.info("commandstats")
    client.close()
    sent = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert sent["cmdstat_evalsha"] == 1
    assert not {"cmdstat_eval", "cmdstat_script|load", "cmdstat_hello", "cmdstat_client|setinfo"} & {
        name for name, calls in sent.items() if calls
    }


# --- bad submissions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "#"),
        (b"not json", "#"),
        (b"[" * 50_000, "#"),
        (b'{"type":"build","priority":NaN}', "#"),
        (b"[]", "#"),
        (b'{"type":"deploy","data":{"projectFiles":{"a":""}}}', "#/type"),
        (b'{"type":"build"}', "#/data"),
        (b'{"type":"build","data":{"projectFiles":{"../x":""}}}', "#/data/projectFiles/..~1x"),
        (b'{"type":"build","data":{"projectFiles":{"a":"","b":"","c":"","d":""}}}', "#/data/projectFiles"),
        (b'{"type":"build","data":{"projectFiles":{"a":"%s"}}}' % (b"x" * 1025), "#/data/projectFiles"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_bodies(api: Client, store: Store, body: bytes, pointer: str) -> None:
    """A bad body is a 400 problem that points at the place, and stores nothing."""
    answer = api.post("/api/jobs", body, content_type="application/json", status=400)

    assert answer.content_type == "application/problem+json"
    assert [mistake["pointer"] for mistake in answer.json["errors"]] == [pointer]
    assert answer.json["error"] == answer.json["message"] == answer.json["detail"]
    assert stored_jobs(store) == 0


def test_all_mistakes_in_one_answer(api: Client) -> None:
    """The answer lists every mistake, and says the first ones in its message for clients that show only that."""
    answer = api.post_json("/api/jobs", {"type": "x", "priority": "high", "data": {}, "y": 1}, status=400)

    assert [mistake["pointer"] for mistake in answer.json["errors"]] == [
        "#/type",
        "#/priority",
        "#/y",
        "#/data/projectFiles",
    ]
    assert "priority must be a whole number from 1 to 20" in answer.json["message"]


def test_body_too_large(api: Client, store: Store) -> None:
    """A body above the limit is 413, and the answer names both sizes."""
    answer = api.post("/api/jobs", b" " * 102_401, content_type="application/json", status=413)

    assert answer.json["code"] == "body_too_large"
    assert answer.json["detail"] == "The body has 102,401 bytes; at most 102,400 are accepted."
    assert stored_jobs(store) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "", "Origin": "http://localhost:80"},
    ],
    ids=str,
)
def test_other_media_types(api: Client, store: Store, headers: dict[str, str]) -> None:
    """A body that says it is anything but plain JSON is 415: a form on a strange page cannot submit a job."""
    answer = api.post("/api/jobs", json.dumps(SUBMISSION).encode(), headers=headers, status=415)

    assert answer.json["code"] == "unsupported_media_type"
    assert stored_jobs(store) == 0


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=UTF-8", "APPLICATION/JSON", "application/x+json", ""]
)
def test_json_media_types(api: Client, media_type: str) -> None:
    """JSON is taken under each of its names, and from a program that does not name it."""
    api.post("/api/jobs", json.dumps(SUBMISSION).encode(), headers={"Content-Type": media_type}, status=201)


# --- problems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job_id",
    [
        UNKNOWN,
        "1",
        "job-abc",
        UNKNOWN.upper(),
        UNKNOWN + "0",
        "job-%0d%0aX:1" + "0" * 20,
        "*",
        "{x}",
        "a" * 3_000,
    ],
)
@pytest.mark.parametrize("rest", ["", "/logs", "/artifacts", "/artifacts/a", "/artifacts.tar.gz"])
def test_unknown_jobs(api: Client, job_id: str, rest: str) -> None:
    """A job that is not there is 404 under every address of it."""
    answer = api.get(f"/api/jobs/{job_id}{rest}", status=404)

    assert answer.json["code"] == "job_not_found"


def test_malformed_id_costs_nothing(api: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be an id is 404 without a question to Redis about it."""
    monkeypatch.setattr(store, "get", None)
    assert api.get("/api/jobs/42", status=404).json["code"] == "job_not_found"


@pytest.mark.parametrize(
    "path", ["/x", "/api", "/api/jobs/", "/api/jobs/a/b", "/favicon.ico", "/%3Cscript%3E", "/api/jobs/%ff"]
)
def test_unknown_addresses(api: Client, path: str) -> None:
    """Any other address is a 404 problem in JSON."""
    answer = api.get(path, status=404)

    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == "not_found"
    assert "<" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/jobs", "GET,POST"),
        ("DELETE", "/api/stats", "GET"),
        ("POST", f"/api/jobs/{UNKNOWN}", "DELETE,GET"),
        ("OPTIONS", "/api/health", "GET"),
        ("TRACE", "/", "GET"),
    ],
)
def test_wrong_methods(api: Client, method: str, path: str, allow: str) -> None:
    """A method that an address does not take is 405, with the ones it takes."""
    answer = api.request(path, method=method, status=405)

    assert answer.headers["Allow"] == allow
    assert answer.json["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/api/stats", f"/api/jobs/{UNKNOWN}", f"/api/jobs/{UNKNOWN}/logs"])
def test_reading_without_redis(away: Client, path: str) -> None:
    """Without Redis every read is a 503 problem with Retry-After that tells nothing about the inside."""
    answer = away.get(path, status=503)

    assert answer.json["code"] == "store_unavailable"
    assert answer.headers["Retry-After"] == "2"
    assert "sock" not in answer.text


def test_submission_without_redis(away: Client) -> None:
    """Without Redis a submission is the same 503 problem."""
    answer = away.post_json("/api/jobs", SUBMISSION, status=503)

    assert answer.json["code"] == "store_unavailable"


def test_full_queue(store: Store, shelf: Shelf) -> None:
    """A full queue is 429, with the time to wait that the queue names."""
    api = failing(store, shelf, QueueFull("The queue builds holds 10,000 jobs.", 17))

    answer = api.post_json("/api/jobs", SUBMISSION, status=429)

    assert answer.headers["Retry-After"] == "17"
    assert answer.json["detail"] == "The queue builds holds 10,000 jobs."


def test_bug(store: Store, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody expected is a 500 problem without a word of it; the log has it under the request id."""
    api = failing(store, shelf, RuntimeError("the secret is 42"))

    answer = api.post_json("/api/jobs", SUBMISSION, headers={"X-Request-Id": "r-1"}, status=500)

    assert "42" not in answer.text
    assert (answer.json["code"], answer.json["requestId"]) == ("internal_error", "r-1")
    assert "request r-1 failed" in caplog.text
    assert "the secret is 42" in caplog.text


def test_unexpected_error_code(store: Store, shelf: Shelf) -> None:
    """An error of ours that has no place in an answer is a 500 problem too."""
    api = failing(store, shelf, LeaseLost("worker-7 owns it"))

    answer = api.post_json("/api/jobs", SUBMISSION, status=500)

    assert answer.json["code"] == "internal_error"
    assert "worker-7" not in answer.text


@pytest.mark.parametrize(("code", "status"), [(code, number) for code, (number, _) in PROBLEMS.items()])
def test_problem_table(code: str, status: int) -> None:
    """Every problem has an HTTP number of the kind for failures, and a short title without a full stop."""
    assert 400 <= status < 600
    assert PROBLEMS[code][1][0].isupper()
    assert not PROBLEMS[code][1].endswith(".")


# --- headers and log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/x", "/api/jobs", f"/api/jobs/{UNKNOWN}"])
def test_headers_of_all_answers(api: Client, path: str) -> None:
    """Good or bad, an answer says that it is not to be sniffed, framed, run or cached, and opens nothing to others."""
    headers = api.get(path, expect_errors=True).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("a b", False), ("a" * 65, False), ('"}{', False), ("", False)]
)
def test_request_ids(api: Client, given: str, kept: bool) -> None:
    """A harmless X-Request-Id comes back, in headers and problems; anything else is replaced by a new one."""
    answer = api.get("/x", headers={"X-Request-Id": given}, status=404)

    assert (answer.headers["X-Request-Id"] == given) is kept
    assert answer.json["requestId"] == answer.headers["X-Request-Id"]


def test_request_log(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is one record with what it was and how long it took."""
    caplog.set_level(logging.INFO, "app")

    api.get("/a%0d%0a%7B%22status%22:200%7D%1b[2J", headers={"X-Request-Id": "r-2"}, status=404)

    (record,) = caplog.records
    event = vars(record)
    assert record.getMessage() == "request"
    assert (event["method"], event["status"], event["request"]) == ("GET", 404, "r-2")
    assert event["path"] == '/a\r\n{"status":200}\x1b[2J'
    assert event["ms"] >= 0
