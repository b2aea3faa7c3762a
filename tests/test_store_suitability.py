"""Which servers are refused."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import machine
from errors import StoreUnsuitable
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
