"""Health: each part's state with its own deadline, and what they come to together; the workers and their draining."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api import health
from artifacts import Shelf
from errors import EngineFault
from executor import Remark
from metrics import Tally
from store import Store
from submission import Options
from tests.api_cases import Client, client
from tests.store_cases import request
from upkeep import Footing, Pulse

WELL = {"engine": "answers", "version": "1"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    """The API with a worker that gives signs of life."""
    store.heartbeat("host:1", 2, WELL)
    return client(store, shelf)


def checked(api: Client, name: str, state: str) -> dict[str, Any]:
    """One check, whose state is this, and with it that of the whole."""
    answer = api.get("/api/health").json
    assert (answer["checks"][name]["state"], answer["status"]) == (state, "healthy" if state == "ok" else "degraded")
    return dict(answer["checks"][name])


def test_healthy(api: Client) -> None:
    """With Redis, a worker and room, everything is well, and the original client's fields are there."""
    answer = api.get("/api/health").json

    assert (answer["status"], answer["redis"]) == ("healthy", "connected")
    assert {check["state"] for check in answer["checks"].values()} == {"ok"}
    assert api.get("/readyz").json["status"] == "ready"


def test_redis_away(shelf: Shelf) -> None:
    """Without Redis the service is unhealthy and not ready, with 503 and when to ask again; the process lives."""
    away = client(Store("unix:///nowhere.sock", timeout_s=0.2, retries=0), shelf)
    answer = away.get("/api/health", status=503)

    assert answer.json["status"] == "unhealthy"
    assert answer.json["error"] == answer.json["message"] == "Redis does not answer."
    assert answer.headers["Retry-After"] == "2"
    assert away.get("/readyz", status=503).headers["Retry-After"] == "2"
    assert away.get("/livez").json["status"] == "alive"


def test_no_worker(store: Store, shelf: Shelf) -> None:
    """Jobs that nobody would run are a warning; they are taken in all the same."""
    assert checked(client(store, shelf), "workers", "warning")["alive"] == 0


def test_engine_away(api: Client, store: Store) -> None:
    """What a worker says of its engine is told, with the worker's name; this process never asks the engine itself."""
    store.heartbeat("host:2", 2, {"engine": "does not answer"})

    assert "host:2" in checked(api, "docker", "warning")["message"]


def test_sandbox(api: Client, store: Store) -> None:
    """What workers' machines lack is told once each, and is a warning only where it is unsafe."""
    store.heartbeat("host:1", 2, {**WELL, "sandbox": [("warn", "It could be better.")]})
    store.heartbeat("host:2", 2, {**WELL, "sandbox": [("warn", "It could be better.")]})
    assert checked(api, "sandbox", "ok")["notes"] == ["It could be better."]

    store.heartbeat("host:2", 2, {**WELL, "sandbox": [("fail", "It leaks.")]})
    assert checked(api, "sandbox", "warning") == {
        "state": "warning", "message": "It leaks.", "notes": ["It leaks.", "It could be better."],
    }  # fmt: skip


def test_footing(caplog: pytest.LogCaptureFixture) -> None:
    """A worker asks what its engine lacks until it answers, says it in the log with the fix, and asks no more."""
    asked: list[int] = []

    def ask() -> list[Remark]:
        asked.append(1)
        if len(asked) == 1:
            raise EngineFault("runtime_unavailable", "away")
        return [Remark("ok", "Fine."), Remark("warn", "Old.", "Renew.")]

    footing = Footing(ask)
    footing.look()
    assert footing.lacks == []
    footing.look()
    footing.look()
    assert (footing.lacks, len(asked)) == ([("warn", "Old.")], 2)
    assert "Old. Renew." in caplog.text


def test_old_queue(api: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that waits for too long is a warning, unless its queue is paused."""
    monkeypatch.setattr(health, "OLD_QUEUE_S", -1)
    assert "builds" in checked(api, "queues", "warning")["message"]
    store.pause()
    checked(api, "queues", "ok")


def test_room(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk below MIN_FREE_DISK is a warning that names it."""
    monkeypatch.setattr(Shelf, "free_bytes", lambda _: 1 << 20)

    assert "MIN_FREE_DISK" in checked(api, "disk", "warning")["message"]


def test_memory(api: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with hardly any memory left is a warning; one that does not tell is none."""
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24000000 kB\nMemAvailable:     240000 kB\n")
    monkeypatch.setattr(health, "MEMINFO", file)
    assert "234 MB" in checked(api, "memory", "warning")["message"]
    file.unlink()
    checked(api, "memory", "ok")


def test_a_check_that_hangs(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not come back costs its own deadline, and the others are told."""
    hangs = threading.Event()
    monkeypatch.setattr(health, "CHECK_S", 0.2)
    monkeypatch.setattr(Shelf, "free_bytes", lambda _: hangs.wait(20) and 0)
    began = time.monotonic()
    try:
        assert "no answer within" in checked(api, "disk", "warning")["message"]
    finally:
        hangs.set()
    assert time.monotonic() - began < 10


def test_workers(api: Client, store: Store) -> None:
    """The workers are listed with their slots, their jobs, what they say of themselves, and how long ago."""
    store.submit(request(), Options())
    job = store.claim("host:1").job
    assert job
    (worker,) = api.get("/api/workers").json["workers"]

    assert 0 <= worker.pop("heartbeatAgeMs") < 5_000
    assert worker == {"name": "host:1", "slots": 2, "jobs": [job.id], "drained": False, **WELL}


def test_drained_worker(api: Client, store: Store) -> None:
    """A worker hears that it is drained, and that it is not any more; one that is gone cannot be."""
    assert store.heartbeat("host:1", 2, WELL) is False
    api.post("/api/workers/host:1/drain")
    assert store.heartbeat("host:1", 2, WELL) is True
    assert api.get("/api/workers").json["workers"][0]["drained"] is True
    api.post("/api/workers/host:1/resume")
    assert store.heartbeat("host:1", 2, WELL) is False
    api.post("/api/workers/host:9/drain", status=404)
    api.post("/api/workers/host:1/drain")
    store.worker_gone("host:1")
    assert store.heartbeat("host:1", 2, WELL) is False


def test_pulse_hears_of_it(store: Store) -> None:
    """A worker's pulse carries what it says of itself, and brings back whether it is drained."""
    pulse = Pulse(store, "host:3", 4, 0.02, Tally(), lambda: WELL)
    pulse.start()
    try:
        until(lambda: [worker.facts for worker in store.workers()] == [WELL])
        store.drain_worker("host:3", drained=True)
        until(lambda: pulse.drained)
        store.drain_worker("host:3", drained=False)
        until(lambda: not pulse.drained)
    finally:
        pulse.stop()
    assert store.workers() == []


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
