"""The delivery log over HTTP, choosing receivers by name, and trying out an endpoint."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
import webhook
from app import create_app
from artifacts import Shelf
from events import Try
from examples import receiver
from jobs import Job
from store import Store
from tests.api_cases import UNKNOWN, Client
from tests.store_cases import SUCCESS, due, next_job

SECRET = webhook.new_secret()
OTHER_SECRET = webhook.new_secret()


def api_to(store: Store, folder: Path, **ports: int) -> Client:
    """The API with an endpoint for each port on this machine."""
    named = {name: {"url": f"http://127.0.0.1:{port}", "secret": SECRET} for name, port in ports.items()}
    settings = config.load({"WEBHOOK_ENDPOINTS": json.dumps(named)})
    return Client(create_app(settings, store, Shelf(folder), store.submit))


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    """The API with two endpoints that nobody listens at."""
    return api_to(store, tmp_path, default=1, ops=1)


def submitted(api: Client, **fields: object) -> str:
    body = {"type": "build", "data": {"projectFiles": {"a": "b"}}, **fields}
    return str(
        api.post_json("/api/jobs", body, headers={"Idempotency-Key": repr(fields).replace(" ", "")}).json["jobId"]
    )


def ended(store: Store, job_id: str) -> Job:
    job = next_job(store)
    assert job.id == job_id
    store.finish(job.id, job.fence, SUCCESS)
    return job


def test_receivers_of_a_job(api: Client, store: Store) -> None:
    """A job is told to those that it names; the record says so, and one that names none says nothing."""
    for wanted, told in ((["ops", "default"], 2), ("none", 0), ("ops", 1), (None, 1)):
        job_id = submitted(api, webhook=wanted)
        ended(store, job_id)
        assert len(api.get(f"/api/jobs/{job_id}/deliveries").json["deliveries"]) == told

    assert api.get(f"/api/jobs/{job_id}").json.get("webhook") is None
    api.post_json(
        "/api/jobs", {"type": "build", "data": {"projectFiles": {"a": "b"}}, "webhook": "http://x"}, status=400
    )


def test_log_of_a_job(api: Client, store: Store) -> None:
    """Each delivery of a job shows event, endpoint, state, next try, and what each try came to."""
    job = ended(store, submitted(api))
    (delivery,) = due(store)
    store.retry_delivery(delivery, 60_000, Try(503, 12, "HTTP 503 busy"))

    (shown,) = api.get(f"/api/jobs/{job.id}/deliveries").json["deliveries"]

    (tried,) = shown.pop("tries")
    assert (tried["status"], tried["durationMs"], tried["note"]) == (503, 12, "HTTP 503 busy")
    assert tried["at"] > shown.pop("createdAt")[:10]
    assert shown.pop("nextTryAt") > tried["at"]
    assert shown == {
        "id": f"{job.id}-1.default",
        "webhookId": f"{job.id}-1",
        "jobId": job.id,
        "event": "job.completed",
        "endpoint": "default",
        "state": "pending",
        "attempt": 1,
    }
    api.get(f"/api/jobs/{UNKNOWN}/deliveries", status=404)
    api.get("/api/jobs/x/deliveries", status=404)


def test_lists(api: Client, store: Store) -> None:
    """Deliveries are listed by state in pages, newest first."""
    for number in range(52):
        job = ended(store, submitted(api, tags=[f"n{number}"]))

    first = api.get("/api/deliveries?state=pending").json
    second = api.get(f"/api/deliveries?cursor={first['next']}").json

    assert (len(first["deliveries"]), len(second["deliveries"]), second["next"]) == (50, 2, None)
    assert first["deliveries"][0]["jobId"] == job.id
    assert api.get("/api/deliveries?state=exhausted").json["deliveries"] == []
    api.get("/api/deliveries?state=lost", status=400)
    api.get("/api/deliveries?cursor=x", status=400)


def test_resend(api: Client, store: Store) -> None:
    """An exhausted delivery is sent again under its old id; an unknown one is 404."""
    ended(store, submitted(api))
    (delivery,) = due(store)
    store.give_up_delivery(delivery, Try(400, 1, "no"))

    answer = api.post(f"/api/deliveries/{delivery.id}/resend", status=202)

    assert answer.json == {"id": delivery.id, "state": "pending"}
    assert [each.message_id for each in due(store)] == [delivery.message_id]
    api.post("/api/deliveries/x/resend", status=404)


def test_disabled_endpoint(api: Client, store: Store) -> None:
    """Stats and health show an endpoint that is gone for good, with why, until it is enabled again."""
    ended(store, submitted(api))
    (delivery,) = due(store)
    store.disable_endpoint(delivery, Try(410, 1, "HTTP 410 gone"))

    shown = api.get("/api/stats").json["webhooks"]
    health = api.get("/api/health").json["checks"]["webhooks"]

    assert shown["default"]["disabled"]["note"] == "HTTP 410 gone"
    assert (shown["default"]["pending"], shown["ops"]["disabled"], shown["ops"]["pending"]) == (1, None, 0)
    assert (health["disabled"], health["pending"], health["exhausted"]) == (["default"], 1, 0)
    assert api.post("/api/webhooks/default/enable").json["disabled"] is None
    assert api.get("/api/health").json["checks"]["webhooks"]["disabled"] == []
    assert len(due(store)) == 1
    api.post("/api/webhooks/unknown/enable", status=404)


@pytest.fixture
def receivers() -> Iterator[tuple[int, int, list[receiver.Event]]]:
    """A receiver that knows our secret, one that knows another, and what they took."""
    events: list[receiver.Event] = []
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(receiver.serve(0, [SECRET], events.append))
        bad = stack.enter_context(receiver.serve(0, [OTHER_SECRET], events.append))
        yield good, bad, events


def test_trying_out(store: Store, tmp_path: Path, receivers: tuple[int, int, list[receiver.Event]]) -> None:
    """A test posts a signed event to both paths of each endpoint, or of one, and answers how each of them took it."""
    good, bad, events = receivers
    api = api_to(store, tmp_path, good=good, bad=bad, dead=1)

    everywhere = api.post("/api/webhooks/test").json
    one = api.post_json("/api/webhooks/test", {"endpoint": "good"}).json

    found = {(each["endpoint"], each["accepted"], each["status"]) for each in everywhere["results"]}
    assert found == {("good", True, 200), ("bad", False, 401), ("dead", False, None)}
    assert len(everywhere["results"]) == 6
    assert (everywhere["accepted"], one["accepted"], len(one["results"])) == (False, True, 2)
    assert {event["path"].rpartition("/")[2] for event in events} == {"worker-result", "worker-progress"}
    assert all(event["body"]["event"] == "webhook.test" and "jobId" not in event["body"] for event in events)
    assert store.deliveries("pending") == []
    api.post_json("/api/webhooks/test", {"endpoint": "unknown"}, status=404)
    api.post_json("/api/webhooks/test", {"url": "http://169.254.169.254"}, status=400)
