"""How the store talks to Redis: its clients, its scripts, its keys, and one translation of errors."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from queue import Empty
from typing import Any

import hiredis
import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry as Resend

from errors import StoreUnavailable
from events import DEFAULT_ENDPOINT, Event
from jobs import QUEUE_NAMES, TRANSITIONS, JobType, Request, Status
from metrics import BUCKETS_MS
from store.values import Rules

LUA = Path(__file__).parent.parent / "lua"
#: Files that stand before every move, in this order.
SHARED = ("keys", "writes", "index", "common", "due", "line")
#: The longest time a call may block on the server, and what the network may add to it.
LONGEST_BLOCK_S = 5.0
ANSWER_S = 2.0
#: How many threads may talk through one client at once; more wait their turn.
CONNECTIONS = 64
#: Called for each call that Redis does not answer or refuses, whichever store of this process made it.
AT_FAILURE: list[Callable[[], None]] = []


class Connection:
    """Clients and scripts of one store; the parts of Store build on it.

    Args:
        url: redis://, rediss:// or unix:// URL of one server.
        prefix: What all keys begin with.
        lease_ms: How long a run owns its job, and a worker counts as alive, without renewing.
        timeout_s: How long one answer may take.
        retries: How often an unanswered call is sent again; moves are safe to repeat, `claim` alone is never repeated.
        notify: Whether jobs that name no endpoint are told to the default one.
        rules: The bounds that the moves keep.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "cw",
        lease_ms: int = 15_000,
        timeout_s: float = 2.0,
        retries: int = 2,
        notify: bool = True,
        rules: Rules | None = None,
    ) -> None:
        self.lease_ms = lease_ms
        self.rules = rules or Rules()
        self._prefix = prefix + ":"
        self._redis = _client(url, timeout_s, retries)
        self._once = _client(url, timeout_s, 0)
        # A blocking pop whose client gives up first loses what the server popped meanwhile.
        self._blocking = _client(url, LONGEST_BLOCK_S + ANSWER_S, 0, connect_s=timeout_s)
        constants = {
            "NOTIFY": notify,
            "DEFAULT_ENDPOINT": DEFAULT_ENDPOINT,
            "BUCKETS_MS": list(BUCKETS_MS),
            "TYPES": frozenset(JobType),
            "ASKS": Request.all_asks(),
            "KNOWN_EVENTS": frozenset(Event),
            **{name.upper(): value for name, value in asdict(self.rules).items()},
        }
        self._scripts = {
            name: self._redis.register_script(text) for name, text in _scripts(self._prefix, constants).items()
        }

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        for client in (self._redis, self._once, self._blocking):
            client.connection_pool.disconnect()

    def _key(self, name: str, rest: str = "") -> str:
        return self._prefix + KEY_NAMES[name] + rest

    def _run(self, script: str, *args: Any, once: bool = False) -> Any:
        """One script, by its hash; the server is told its text when it does not know it (new, restarted, flushed)."""
        client, known = self._once if once else self._redis, self._scripts[script]
        with translated():
            try:
                return asked(client, "EVALSHA", known.sha, 0, *args)
            except redis.exceptions.NoScriptError:
                client.script_load(known.script)
                return asked(client, "EVALSHA", known.sha, 0, *args)

    def _pipeline(self) -> Any:
        """Several commands in one round trip. No transaction: a full server refuses those, whatever is in them."""
        return self._redis.pipeline(transaction=False)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Everything that redis-py raises becomes StoreUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        for tell in AT_FAILURE:
            tell()
        raise StoreUnavailable(f"Redis does not answer or refuses: {error}") from error


def asked(client: Any, *command: Any) -> Any:
    """What Redis answers to a command; its connections and their retries are the client's.

    The client's own way there takes half as long again as the rest of the exchange, for measurements that nobody takes.
    """
    packed = [hiredis.pack_command(command)]
    connection = client.connection_pool.get_connection()
    try:

        def exchange() -> Any:
            connection.send_packed_command(packed, check_health=False)
            return connection.read_response()

        answer = connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
        connection.answered_at = time.monotonic()
        return answer
    except redis.ResponseError:
        raise  # which is a whole answer
    except BaseException:
        connection.disconnect()  # what comes late must not be taken for the next answer
        raise
    finally:
        client.connection_pool.release(connection)


class Pool(redis.BlockingConnectionPool):
    """A pool that does not look after a connection which gave a whole answer a moment ago.

    redis-py asks the kernel before each use whether the server has closed it or something is left to read, and measures
    the pool: together that takes as long as the exchange itself.
    """

    MOMENT_S = 1.0

    # Any: what redis-py's own types say of a connection.
    def get_connection(self, *args: Any, **options: Any) -> Any:
        """A connection that nobody else has. Raises redis.ConnectionError."""
        self._checkpid()
        try:
            connection: Any = self.pool.get_nowait()
        except Empty:
            return super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        answered_at = getattr(connection, "answered_at", 0.0)
        if time.monotonic() - answered_at < self.MOMENT_S:
            connection.answered_at = 0.0
            return connection
        self.pool.put_nowait(connection)
        return super().get_connection(*args, **options)  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        """Give it back."""
        if getattr(connection, "answered_at", 0.0) and connection.pid == os.getpid():
            self.pool.put_nowait(connection)
        else:
            super().release(connection)  # type: ignore[no-untyped-call]


# Any: redis-py's types allow for text replies and asynchronous clients, of which there are none here.
def _client(url: str, timeout_s: float, retries: int, *, connect_s: float | None = None) -> Any:
    pool = Pool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=(connect_s or timeout_s) / 2,  # a free connection, too, is waited for: all steps stay under 2 * timeout
        socket_connect_timeout=(connect_s or timeout_s) / 2,
        socket_timeout=timeout_s,
        retry=Resend(ExponentialWithJitterBackoff(base=0.05, cap=0.3), retries),
        protocol=2,
    )
    return redis.Redis(connection_pool=pool)


def _key_names() -> dict[str, str]:
    """The catalogue of lua/keys.lua."""
    return dict(re.findall(r"^  (\w+) = '(\w+:?)'", (LUA / "keys.lua").read_text(), re.MULTILINE))


KEY_NAMES = _key_names()


def _scripts(prefix: str, constants: dict[str, Any]) -> dict[str, str]:
    """The text of every move: constants, keys, what the moves share, and the move itself."""
    table = {
        "PREFIX": prefix,
        "MOVES": {
            name: {"from": dict.fromkeys(sorted(origins), True), "to": target}
            for name, (origins, target) in TRANSITIONS.items()
        },
        "FINAL": {status: True for status in Status if status.is_final},
        "QUEUES": list(QUEUE_NAMES),
        **constants,
    }
    head = [f"local {name} = {_lua(value)}\n" for name, value in table.items()]
    shared = "".join([*head, *((LUA / f"{name}.lua").read_text() for name in SHARED)])
    moves = [path for path in sorted(LUA.glob("*.lua")) if path.stem not in SHARED]
    return {path.stem: _wanted(shared, path.read_text()) + path.read_text() for path in moves}


def _wanted(shared: str, move: str) -> str:
    """Of the shared definitions those that a move uses, itself or through others.

    A script is carried out from its first line at every call: all of them cost 20 µs, more than most moves need.
    """
    words = _words(move)
    kept: list[str] = []
    for definition in reversed(re.split(r"^(?=local )", shared, flags=re.MULTILINE)):
        names = re.match(r"local (?:function )?(\w+)", definition)
        if names and names[1] in words:
            kept.append(definition)
            words |= _words(definition)
    return "".join(reversed(kept))


def _words(lua: str) -> set[str]:
    """All names in a text, and words in its strings; none of its comments."""
    return set(re.findall(r"\w+", re.sub(r"--.*", "", lua)))


def _lua(value: Any) -> str:
    """A Python constant (of plain words, numbers, lists, sets and tables) as Lua writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        value = dict.fromkeys(sorted(value), True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"['{name}'] = {_lua(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)
