"""Redis full, restarted, flushed of scripts, down, or silent."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import machine
from errors import StoreUnavailable
from events import Try
from jobs import Retry
from store import Store
from tests.store_cases import FAULT, SUCCESS, claimed, due, lines, next_job, request

CALLS: dict[str, Callable[[Store], object]] = {
    "ping": lambda store: store.ping(),
    "add": lambda store: store.add(request()),
    "claim": lambda store: store.claim("w"),
    "beat": lambda store: store.beat("job-x", 1),
    "get": lambda store: store.get("job-x"),
    "stats": lambda store: store.stats(),
    "log": lambda store: store.log("job-x"),
    "claim_deliveries": lambda store: store.claim_deliveries("default", 1, 1),
    "lanes": lambda store: store.lanes(),
    "deliveries": lambda store: store.deliveries("pending"),
    "resend": lambda store: store.resend("job-x-1.default"),
}


@pytest.fixture
def full(redis_url: str) -> Iterator[Store]:
    """A store on a server with room for nothing more; two jobs wait and one runs, claimed by `w`."""
    store = Store(redis_url)
    for _ in range(3):
        store.add(request())
    next_job(store)
    store._redis.config_set("maxmemory", "1mb")
    yield store
    store._redis.config_set("maxmemory", "0")
    store.close()


def active(store: Store) -> tuple[str, int]:
    """The job that runs, and its fence."""
    (job_id,) = store._redis.zrange("cw:active:builds", 0, -1)
    return job_id.decode(), 1


def test_full_server_takes_nothing_new(full: Store) -> None:
    """A job that cannot be kept is refused and leaves nothing behind."""
    before = full._redis.dbsize()

    with pytest.raises(StoreUnavailable, match="maxmemory"):
        full.add(request())

    assert full._redis.dbsize() == before


def test_full_server_drains(full: Store) -> None:
    """On a full server running jobs still write, end, are retried and handed back, and waiting ones are claimed."""
    job_id, fence = active(full)
    full.beat(job_id, fence)
    full.progress(job_id, fence, 50, "building")
    full.append_log(job_id, fence, [lines(0, "still here\n")])
    full.finish(job_id, fence, SUCCESS)
    second = next_job(full)
    full.release(second.id, second.fence)
    second = next_job(full)
    full.finish(second.id, second.fence, FAULT, Retry(0, "again"))
    full.cancel(second.id)
    third = next_job(full)
    full.finish(third.id, third.fence, SUCCESS)

    for delivery in due(full):
        full.retry_delivery(delivery, 0, Try(500))
    for delivery in due(full):
        full.accept_delivery(delivery, Try(200))

    assert full.stats()["builds"] == {"waiting": 0, "delayed": 0, "active": 0, "completed": 2, "failed": 1}
    assert due(full) == []


def test_full_server_is_kept_in_order(full: Store) -> None:
    """On a full server housekeeping goes on: workers, pauses, deliveries, findings, repairs, and removal."""
    job_id, fence = active(full)
    full.heartbeat("w", 2)
    full.pause("builds", "full")
    full.resume("builds")
    full.quarantine("somewhere", b"raw", "why")
    full._redis.zrem("cw:active:builds", job_id)
    full.tick()
    full.tick()
    again = next_job(full)
    full.finish(again.id, again.fence, SUCCESS)
    (delivery,) = due(full)
    full.disable_endpoint(delivery, Try(410))
    full.enable_endpoint("default")
    (delivery,) = due(full)
    full.give_up_delivery(delivery, Try(400))
    full.resend(delivery.id)
    full.remove(again.id)

    assert (again.id, again.fence) == (job_id, fence + 1)
    assert full.counters()["removed"] == 1


def test_forgotten_scripts(store: Store) -> None:
    """A server that forgot the scripts is told them again."""
    store.add(request())

    store._redis.script_flush()

    store.add(request())
    store._redis.script_flush()
    assert store.claim("w").job is not None


def test_restart(tmp_path: Path) -> None:
    """After a restart of the server the same store goes on, and what it had accepted is there."""
    with tempfile.TemporaryDirectory(prefix="cw-redis-") as folder:
        url = f"unix://{folder}/redis.sock"
        options = ["--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        store = Store(url, retries=0)
        with machine.own_redis(machine.redis_binary(), Path(folder), options, url) as server:
            job = claimed(store)
            server.kill()
            server.wait()
            with pytest.raises(StoreUnavailable):
                store.add(request())
        with machine.own_redis(machine.redis_binary(), Path(folder), options, url):
            store.finish(job.id, job.fence, SUCCESS)
            assert store.get(job.id).status == "completed"
        store.close()


@pytest.mark.parametrize("call", CALLS)
def test_nobody_listens(tmp_path: Path, call: str) -> None:
    """Without a server every call fails in under a second."""
    store = Store(f"unix://{tmp_path}/none.sock", timeout_s=0.5, retries=0)
    started = time.monotonic()

    with pytest.raises(StoreUnavailable):
        CALLS[call](store)

    assert time.monotonic() - started < 1


@pytest.mark.parametrize("call", CALLS)
def test_silent_server(call: str) -> None:
    """A server that takes the connection and never answers fails every call in under a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = Store(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.5, retries=0)
        started = time.monotonic()

        with pytest.raises(StoreUnavailable):
            CALLS[call](store)

        assert time.monotonic() - started < 1
        store.close()


def test_creating_a_store_connects_to_nothing() -> None:
    """A store can be created while Redis is down."""
    Store("redis://127.0.0.1:1")
