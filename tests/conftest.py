"""Fixtures shared by all tests: a private Redis server on a Unix socket, flushed for every test."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import config
import machine
from store import Store


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Docker Engine, installed and started if need be, while tests that want one are to run; else nothing.

    Where none can be had those tests fail with the sentence that says why: they never skip.
    """
    wanted = ("engine", "e2e", "hostile")
    if not any(item.get_closest_marker(name) for item in request.session.items for name in wanted):
        yield
        return
    host = config.load().docker_host
    with machine.docker_engine(host, tmp_path_factory.mktemp("engine"), print):
        yield


@contextlib.contextmanager
def private_redis() -> Iterator[str]:
    """A Redis server of the tests' own; its URL."""
    # Not tmp_path: a Unix socket's path may be at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="cw-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        url = f"unix://{socket}"
        options = ["--port", "0", "--unixsocket", str(socket)]
        with machine.own_redis(machine.redis_binary(), Path(folder), options, url):
            yield url


@pytest.fixture(scope="session")
def redis_session_url() -> Iterator[str]:
    """URL of a Redis server that belongs to this test run alone."""
    with private_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_session_url: str) -> str:
    """The private server, emptied."""
    client = redis.Redis.from_url(redis_session_url)
    client.flushall()
    client.close()
    return redis_session_url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A store on the private server, with the defaults of the service."""
    opened = Store(redis_url)
    yield opened
    opened.close()
