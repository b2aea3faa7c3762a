"""A private Redis server for one run: every contender has a database of its own on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

import machine
from bench.measure import say
from stack import free_port


class Server:
    """One Redis server on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        # Any: redis-py's types allow for asynchronous clients.
        self.client: Any = redis.Redis(port=port)

    def url(self, database: int) -> str:
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def database(self, number: int) -> Any:
        """A client of one of its databases."""
        return redis.Redis.from_url(self.url(number))

    def sync(self, when: str) -> None:
        """From now on its append-only file is synced `always`, `everysec` or `no`."""
        self.client.config_set("appendfsync", when)

    def empty(self) -> None:
        """Empty all databases, and the append-only file with them."""
        self.client.flushall()
        self.client.bgrewriteaof()
        while self.client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)

    def cpu_s(self) -> float:
        """What it has used so far with all its threads, in user and system mode (s)."""
        used = self.client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    @property
    def version(self) -> str:
        """Its name and version."""
        facts = self.client.info("server")
        return f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {facts['redis_version']}"


@contextlib.contextmanager
def private_server(folder: Path) -> Iterator[Server]:
    """Started as the service starts its own, but for rewrites of its file, which would hit contenders at random."""
    server = Server(free_port())
    options = ["--port", str(server.port), "--bind", "127.0.0.1"]
    options += ["--auto-aof-rewrite-percentage", "0"]
    with machine.own_redis(machine.redis_binary(), folder / "redis", options, server.url(0)):
        say(f"{server.version}, data in {folder}")
        yield server
