"""Which servers are refused."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import machine
from errors import StoreUnavailable, StoreUnsuitable
from store import Store
from store.suitability import shortcomings

GOOD: dict[str, Any] = {
    "redis_version": "6.2.0",
    "role": "master",
    "cluster_enabled": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}


@contextlib.contextmanager
def server(*options: str) -> Iterator[Store]:
    """A store on a server of its own with these options on top."""
    with tempfile.TemporaryDirectory(prefix="cw-redis-") as folder:
        url = f"unix://{folder}/redis.sock"
        all_options = ["--port", "0", "--unixsocket", f"{folder}/redis.sock", *options]
        with machine.own_redis(machine.redis_binary(), Path(folder), all_options, url):
            store = Store(url)
            yield store
            store.close()


def until(found: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds; a server that does not listen yet has not met it."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(redis.ConnectionError):
            if found():
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_own_server_is_suitable(store: Store) -> None:
    """The server that this project starts keeps what it promises."""
    store.check_suitable()


def test_everything_wrong_is_said_at_once() -> None:
    """A server that evicts and forgets is refused with both reasons."""
    with (
        server("--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as store,
        pytest.raises(StoreUnsuitable, match=r"allkeys-lru.*; .*appendonly"),
    ):
        store.check_suitable()


def test_replica() -> None:
    """A replica is refused."""
    with server("--replicaof", "127.0.0.1", "1") as store, pytest.raises(StoreUnsuitable, match="replica"):
        store.check_suitable()


def test_one_that_reads_its_file(tmp_path: Path) -> None:
    """While a server still reads its file, INFO calls that file off: it is waited for, not refused."""
    options = ["--port", "0", "--unixsocket", f"{tmp_path}/redis.sock"]
    url = f"unix://{tmp_path}/redis.sock"
    with machine.own_redis(machine.redis_binary(), tmp_path, options, url), redis.Redis.from_url(url) as client:
        client.mset({f"key{number}": "x" * 100 for number in range(1_000)})
        client.bgrewriteaof()
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    slow = [*options, "--appendonly", "yes"]
    slow += ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"]
    reading = subprocess.Popen([machine.redis_binary(), "--dir", str(tmp_path), *slow], stdout=subprocess.DEVNULL)
    store = Store(url)
    try:
        until(lambda: redis.Redis.from_url(url).info("persistence")["loading"] == 1)
        with pytest.raises(StoreUnavailable, match="reads its file"):
            store.check_suitable()
    finally:
        store.close()
        machine.stop_process(reading)


@pytest.mark.parametrize(
    ("fact", "value", "said"),
    [
        ("redis_version", "6.0.16", "6.0.16"),
        ("redis_version", "5.0", "5.0"),
        ("role", "slave", "replica"),
        ("cluster_enabled", 1, "cluster"),
        ("maxmemory_policy", "volatile-ttl", "volatile-ttl"),
        ("aof_enabled", 0, "appendonly"),
        ("aof_last_write_status", "err", "disk"),
    ],
)
def test_each_shortcoming(fact: str, value: Any, said: str) -> None:
    """Each unsuitable fact alone is enough, and named."""
    assert shortcomings(GOOD) == []
    (found,) = shortcomings({**GOOD, fact: value})
    assert said in found


@pytest.mark.parametrize("version", ["6.2.14", "7.0.15", "10.0.0"])
def test_newer_versions(version: str) -> None:
    """Versions are compared as numbers."""
    assert shortcomings({**GOOD, "redis_version": version}) == []
