"""Connections to Redis that are used again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from store import Store
from store.connection import Pool, asked
from tests.store_cases import request


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A store whose client has one connection, which has just answered."""
    store = Store(redis_url)
    store.get(store.add(request()).id)
    yield store
    store.close()


@pytest.fixture
def looked_after(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections that the pool has looked after since."""
    seen: list[object] = []
    kind = store._redis.connection_pool.connection_class
    can_read = kind.can_read

    def noting(connection: Any, timeout: float = 0) -> bool:
        seen.append(connection)
        return bool(can_read(connection, timeout))

    monkeypatch.setattr(kind, "can_read", noting)
    return seen


def test_connection_that_just_answered_is_not_looked_after(
    store: Store, looked_after: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That would take as long as the exchange."""
    monkeypatch.setattr(Pool, "MOMENT_S", 60.0)
    asked(store._redis, "PING")
    looked_after.clear()

    asked(store._redis, "PING")

    assert looked_after == []


def test_connection_is_looked_after_again_later(
    store: Store, looked_after: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have closed it meanwhile."""
    monkeypatch.setattr(Pool, "MOMENT_S", 0.0)
    other = Store(store._redis.connection_pool.connection_kwargs["path"].join(("unix://", "")))
    other._redis.client_kill_filter(_type="normal", skipme=True)
    other.close()

    assert asked(store._redis, "PING") == b"PONG"
    assert looked_after


def test_answer_that_nobody_waited_for_is_nobody_elses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange that is broken off in its middle leaves an answer to come: it must not be taken for the next one."""

    def broken_off(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store._redis.connection_pool.connection_class, "read_response", broken_off)
        with pytest.raises(KeyboardInterrupt):
            asked(store._redis, "BLPOP", "nothing", "0.1")

    assert asked(store._redis, "PING") == b"PONG"


def test_refused_command_leaves_the_connection_usable(store: Store) -> None:
    """Its error was a whole answer."""
    with pytest.raises(Exception, match="unknown command"):
        asked(store._redis, "NONSENSE")

    assert asked(store._redis, "ECHO", "x") == b"x"
