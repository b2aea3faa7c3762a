"""The HTTP API after submission: the same submission again, cancel, rerun, remove, dead letters, pause and drain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api import jobs
from artifacts import Shelf
from jobs import Conclusion, Reason, Result, Status
from store import Store
from tests.api_cases import FILES, UNKNOWN, Client, client, finish
from tests.store_cases import BROKEN, claimed, next_job


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


def submission(chat: str = "c", **fields: Any) -> dict[str, Any]:
    return {"type": "build", "data": {"projectFiles": {"a.txt": "hi"}, "chatId": chat}, **fields}


def dead_letter(store: Store, **fields: Any) -> str:
    """The id of a job that lost its worker once too often."""
    job = claimed(store, **fields)
    store.finish(job.id, job.fence, Result(Conclusion.ERROR, Reason.RUNTIME_UNAVAILABLE, "the engine is away"))
    return job.id


# --- the same submission again ----------------------------------------------------------------------------------------


def test_same_key_is_the_same_job(api: Client) -> None:
    """The same Idempotency-Key and body answers 200 and the job of the first time, however often."""
    first = api.post_json("/api/jobs", submission(), headers={"Idempotency-Key": "k1"}, status=201)
    again = api.post_json("/api/jobs", submission(), headers={"Idempotency-Key": "k1"}, status=200)

    assert again.json == first.json


def test_same_key_with_another_body_is_a_conflict(api: Client, store: Store) -> None:
    """A key that was used with another body is 409, and nothing is stored."""
    api.post_json("/api/jobs", submission(), headers={"Idempotency-Key": "k1"})

    answer = api.post_json("/api/jobs", submission("other"), headers={"Idempotency-Key": "k1"}, status=409)

    assert answer.json["code"] == "idempotency_conflict"
    assert store.stats()["builds"]["waiting"] == 1


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "ümlaut"])
def test_keys_that_are_none(api: Client, key: str) -> None:
    """A key is 1 to 255 printable characters; anything else is 400 and names the header."""
    answer = api.post_json(
        "/api/jobs", submission(), headers={"Idempotency-Key": key.encode().decode("latin-1")}, status=400
    )

    assert answer.json["errors"][0]["pointer"] == "Idempotency-Key"


def test_repeated_post_of_a_retrying_client(api: Client, store: Store) -> None:
    """The same POST again without a key is the same job while that one is not finished, and a new one afterwards."""
    first = api.post_json("/api/jobs", submission(), status=201).json["jobId"]

    assert api.post_json("/api/jobs", submission(), status=200).json["jobId"] == first
    job = next_job(store)
    store.finish(job.id, job.fence, BROKEN)
    assert api.post_json("/api/jobs", submission(), status=201).json["jobId"] != first


def test_options_reach_the_record(api: Client) -> None:
    """Tags, metadata, delay, expiry and the retry rule of a submission stand in its record."""
    wish = {"attempts": 2, "on": ["tests_failed"], "delayMs": 10, "backoff": "fixed"}
    body = submission(tags=["nightly"], metadata={"n": 1}, delayMs=60_000, expiresIn=120, retry=wish)

    record = api.get(api.post_json("/api/jobs", body).headers["Location"]).json

    assert (record["tags"], record["metadata"], record["retry"]) == (["nightly"], {"n": 1}, wish)
    assert record["runAt"]
    assert record["expiresAt"]
    assert record["waiting"]["blockedBy"] == "delay"


def test_superseded(api: Client) -> None:
    """A submission that supersedes cancels the chat's older job, which says so."""
    older = api.post_json("/api/jobs", submission(priority=1)).json["jobId"]

    api.post_json("/api/jobs", submission(supersede=True), status=201)

    record = api.get(f"/api/jobs/{older}").json
    assert (record["status"], record["conclusion"], record["reason"]) == ("failed", "cancelled", "superseded")


# --- one job ----------------------------------------------------------------------------------------------------------


def test_cancel_waiting(api: Client) -> None:
    """A waiting job is cancelled at once, with the reason given."""
    job_id = api.post_json("/api/jobs", submission()).json["jobId"]

    record = api.post_json(f"/api/jobs/{job_id}/cancel", {"reason": "the user left"}).json

    assert (record["status"], record["conclusion"], record["message"]) == ("failed", "cancelled", "the user left")


def test_cancel_running(api: Client, store: Store) -> None:
    """A running job is asked to stop: its record says so, and its worker hears it with the next beat."""
    job = claimed(store)

    record = api.post(f"/api/jobs/{job.id}/cancel").json

    assert record["status"] == "active"
    assert record["cancelRequested"]["reason"] == "cancelled"
    assert store.beat(job.id, job.fence)


def test_cancel_finished(api: Client, store: Store, shelf: Shelf) -> None:
    """Cancelling a finished job is 200 and changes nothing."""
    job = finish(store, shelf, claimed(store), FILES)

    assert api.post(f"/api/jobs/{job.id}/cancel", status=200).json == api.get(f"/api/jobs/{job.id}").json
    assert store.get(job.id).status is Status.COMPLETED


def test_rerun(api: Client, store: Store) -> None:
    """A rerun is a new job with the same request, which names the old one."""
    job = claimed(store, chat_id="c7")
    store.finish(job.id, job.fence, BROKEN)

    answer = api.post(f"/api/jobs/{job.id}/rerun", status=201)

    assert answer.json["replayOf"] == job.id
    assert store.request(answer.json["jobId"]) == store.request(job.id)


def test_remove(api: Client, store: Store, shelf: Shelf) -> None:
    """A finished job goes with its files; then it is not found."""
    job = finish(store, shelf, claimed(store), FILES)

    api.delete(f"/api/jobs/{job.id}", status=204)

    api.get(f"/api/jobs/{job.id}", status=404)
    assert not list(shelf._root.glob("job-*"))


def test_unfinished_jobs_are_not_removed(api: Client, store: Store) -> None:
    """A job that waits or runs is 409, and stays."""
    job = claimed(store)

    assert api.delete(f"/api/jobs/{job.id}", status=409).json["code"] == "move_refused"
    assert store.get(job.id).status is Status.ACTIVE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/jobs/{}/cancel"),
        ("POST", "/api/jobs/{}/rerun"),
        ("DELETE", "/api/jobs/{}"),
        ("POST", "/api/dead-letters/{}/replay"),
        ("DELETE", "/api/dead-letters/{}"),
    ],
)
@pytest.mark.parametrize("job_id", [UNKNOWN, "1", "job-" + "A" * 32])
def test_unknown_jobs(api: Client, method: str, path: str, job_id: str) -> None:
    """Every operation on a job that is not there, or on what cannot be an id, is 404."""
    assert api.request(path.format(job_id), method=method, status=404).json["code"] == "job_not_found"


@pytest.mark.parametrize("body", [b"[]", b'{"reason": 1}', b'{"why": "x"}', b"{", b'{"reason": "' + b"x" * 501 + b'"}'])
def test_bad_bodies(api: Client, body: bytes) -> None:
    """A body that is not an object with a short reason is 400, and nothing happens."""
    job_id = api.post_json("/api/jobs", submission()).json["jobId"]

    api.post(f"/api/jobs/{job_id}/cancel", body, {"Content-Type": "application/json"}, status=400)

    assert api.get(f"/api/jobs/{job_id}").json["status"] == "pending"


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_newest_first(api: Client, store: Store) -> None:
    """Jobs that failed by no fault of theirs are listed with their reason; others are not."""
    older, newer = dead_letter(store), dead_letter(store)
    job = claimed(store)
    store.finish(job.id, job.fence, BROKEN)

    answer = api.get("/api/dead-letters").json

    assert [letter["jobId"] for letter in answer["deadLetters"]] == [newer, older]
    assert answer["deadLetters"][0]["reason"] == "runtime_unavailable"
    assert answer["next"] is None


def test_replay(api: Client, store: Store) -> None:
    """A replayed letter is a new job, and off the list; replaying it again answers the same new job."""
    letter = dead_letter(store)

    first = api.post(f"/api/dead-letters/{letter}/replay", status=201).json

    assert first["replayOf"] == letter
    assert not api.get("/api/dead-letters").json["deadLetters"]
    assert api.post(f"/api/dead-letters/{letter}/replay").json["jobId"] == first["jobId"]


def test_replay_of_all_that_match(api: Client, store: Store) -> None:
    """Only the letters that match are replayed."""
    mine = [dead_letter(store, chat_id="mine") for _ in range(3)]
    other = dead_letter(store, chat_id="other")

    answer = api.post_json("/api/dead-letters/replay", {"chatId": "mine"}).json

    assert answer["count"] == 3
    assert {entry["deadLetter"] for entry in answer["replayed"]} == set(mine)
    assert [letter["jobId"] for letter in api.get("/api/dead-letters").json["deadLetters"]] == [other]


def test_discard(api: Client, store: Store) -> None:
    """A discarded letter is off the list; its job stays."""
    letter = dead_letter(store)

    api.delete(f"/api/dead-letters/{letter}", status=204)

    assert not api.get("/api/dead-letters").json["deadLetters"]
    api.get(f"/api/jobs/{letter}", status=200)


# --- queues -----------------------------------------------------------------------------------------------------------


def test_pause_and_resume(api: Client, store: Store) -> None:
    """A paused queue starts nothing, says why in stats, health and the record, and goes on when resumed."""
    job_id = api.post_json("/api/jobs", submission()).json["jobId"]

    api.post_json("/api/queues/builds/pause", {"reason": "moving house"})

    assert store.claim("w").job is None
    assert api.get("/api/stats").json["paused"]["builds"]["reason"] == "moving house"
    assert api.get("/api/health").json["paused"]["builds"]["reason"] == "moving house"
    waiting = api.get(f"/api/jobs/{job_id}").json["waiting"]
    assert (waiting["blockedBy"], waiting["detail"]) == ("paused", "moving house")
    assert api.post("/api/queues/builds/resume").json["paused"] == {}
    assert next_job(store).id == job_id


def test_drain_of_all(api: Client, store: Store) -> None:
    """Draining queues take nothing in (429 with when to ask again), and go on with what they hold."""
    job_id = api.post_json("/api/jobs", submission()).json["jobId"]

    api.post_json("/api/queues/all/drain", {"reason": "closing"})

    refused = api.post_json("/api/jobs", submission("other"), status=429)
    assert refused.json["code"] == "queue_full"
    assert "closing" in refused.json["message"]
    assert int(refused.headers["Retry-After"]) > 0
    assert next_job(store).id == job_id


def test_unknown_queue(api: Client) -> None:
    """A queue that is not there is 404, with the names of those that are."""
    assert "builds, tests, lint" in api.post("/api/queues/nightly/pause", status=404).json["message"]


# --- room -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_takes_nothing_new(store: Store, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less room than the settings ask for, submissions are 503 and health is degraded; what is there stays."""
    api = client(store, shelf)
    location = api.post_json("/api/jobs", submission()).headers["Location"]
    monkeypatch.setattr(jobs, "ROOM_SEEN_S", 0)
    monkeypatch.setattr(Shelf, "free_bytes", lambda _: 1 << 20)

    refused = api.post_json("/api/jobs", submission("other"), status=503)

    assert refused.json["code"] == "disk_low"
    assert "MIN_FREE_DISK" in refused.json["message"]
    assert api.get("/api/health").json["status"] == "degraded"
    api.get(location, status=200)


def test_room_is_that_of_the_disk(tmp_path: Path) -> None:
    """A shelf whose folder is not made yet knows the room of the disk that it will be on."""
    assert Shelf(tmp_path / "not" / "yet").free_bytes() > 0
