"""Everything that a release keeps in Redis, one of each form, as JSON: later releases prove by it that they read it.

python -m tests.records > tests/data/records/<version>.json    at each release, with its code
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import redis

from access import Scope, new_key
from events import Delivery, Event, Try
from jobs import (
    Artifact,
    Call,
    Conclusion,
    Job,
    JobType,
    OutputChunk,
    Package,
    Phase,
    PhaseTime,
    Quota,
    Reason,
    Request,
    Result,
    Retry,
)
from store import Rules, Store
from submission import Options, RetryRule
from timetable import Schedule

FILES = {"package.json": '{"scripts": {"build": "true"}}', "naïve.txt": "ünïcode"}
CODE = {"index.mjs": "export const handler = (event) => event"}
QUOTA = Quota()


def claimed(store: Store) -> Job:
    job = store.claim("old-worker:1").job
    assert job
    return job


def fill(store: Store) -> None:
    """One of each form. What is claimed comes first, so that nothing else is."""
    finished(store)
    failed(store)
    functions(store)
    active(store)
    waiting(store)
    store.add_schedule(Schedule("sch-" + "1" * 32, {"type": "build", "data": {"projectFiles": FILES}}, every_s=3600,
                                created_ms=1_700_000_000_000, next_ms=1_700_003_600_000, name="nightly"))  # fmt: skip
    store.add_key(new_key("acme", frozenset({Scope.SUBMIT, Scope.READ}), "laptop")[0])
    store.heartbeat("old-worker:1", 4, {"version": "old", "engine": "answers", "sandbox": [("warn", "no runsc")]})
    store.pause("tests", "for a while")
    store.add_figures({"http_requests|GET|/api/jobs|200": 7, "job_phase_seconds|build|building|100": 1})
    store.quarantine("queue", b"\xff", "broken")


def finished(store: Store) -> None:
    store.submit(Request(JobType.BUILD, FILES, chat_id="done"), Options(tags=("nightly",), metadata={"commit": "abc"}))
    job = claimed(store)
    store.progress(job.id, job.fence, 50, Phase.BUILDING)
    store.append_log(job.id, job.fence, [OutputChunk(0, 2, 1_700_000_000_000, "building", "stdout", "one\ntwo\n")])
    phases = (PhaseTime("installing", 10), PhaseTime("building", 20))
    artifacts = (Artifact("index.html", 5, "0" * 64),)
    store.finish(job.id, job.fence, Result(Conclusion.SUCCESS, phases=phases, artifacts=artifacts))
    settle(store, "accepted")


def failed(store: Store) -> None:
    rule = RetryRule(2, (Reason.TESTS_FAILED,))
    store.submit(Request(JobType.TEST, FILES, chat_id="red"), Options(retry=rule))
    for again in (Retry(0, "as wished", "user"), None):
        job = claimed(store)
        store.finish(job.id, job.fence, Result(Conclusion.FAILURE, Reason.TESTS_FAILED, "red", exit_code=1), again)
    settle(store, "exhausted")
    store.submit(Request(JobType.LINT, FILES, chat_id="dead"), Options())
    job = claimed(store)
    store.finish(job.id, job.fence, Result(Conclusion.ERROR, Reason.RUNTIME_UNAVAILABLE, "no engine"))
    settle(store, "retry")
    store.cancel(store.add(Request(JobType.BUILD, FILES, chat_id="unwanted")).id, Reason.CANCELLED, "not needed")


def settle(store: Store, how: str) -> None:
    """Take what is due, and let it end so."""
    for delivery in due(store):
        tried = Try(500, 12, "HTTP 500")
        if how == "retry" and delivery.event is Event.FAILED:
            store.retry_delivery(delivery, 3_600_000, tried)
        elif how == "exhausted" and delivery.event is Event.FAILED:
            store.give_up_delivery(delivery, tried)
        else:
            store.accept_delivery(delivery, Try(200, 8, "HTTP 200"))


def due(store: Store) -> Iterator[Delivery]:
    while taken := store.claim_deliveries("default", 4, 60_000)[0]:
        yield from taken


def functions(store: Store) -> None:
    for state in ("ready", "making"):
        call = Call("node", "index.mjs", "handler", name=state)
        wanted = Request(JobType.FUNCTION, CODE, call=call, dependencies={"dependencies": {"left-pad": "1.3.0"}})
        job_id = f"job-{len(state):032x}"
        number, _ = store.put_version(state, wanted, job_id, QUOTA)
        if state == "ready":
            store.settle_version(state, number, Package(job_id, 1, "0" * 64, 100), QUOTA)


def active(store: Store) -> None:
    store.submit(Request(JobType.BUILD, FILES, chat_id="running", env={"A": "b"}, steps=(JobType.BUILD,)), Options())
    job = claimed(store)
    store.progress(job.id, job.fence, 10, Phase.INSTALLING)
    store.append_log(job.id, job.fence, [OutputChunk(0, 1, 1_700_000_000_000, "installing", "stderr", "so far\n")])


def waiting(store: Store) -> None:
    plain = Request(JobType.BUILD, FILES, chat_id="next", binary={"a.png": "AAAA"}, artifacts=("dist/**",))
    store.submit(plain, Options(idempotency_key="key", body_hash="hash", fingerprint="same"))
    store.submit(Request(JobType.BUILD, FILES, chat_id="of-acme"), Options(tenant="acme", webhook=()))
    store.submit(Request(JobType.BUILD, FILES, chat_id="later"), Options(delay_ms=10 * 365 * 86_400_000))
    store.submit(Request(JobType.BUILD, FILES, chat_id="expiring"), Options(expires_in_ms=1_000))


def dumped(client: Any) -> dict[str, list[Any]]:
    """Every key with its type and its value."""
    return {text(name): [kind := text(client.type(name)), _value(client, kind, name)] for name in sorted(client.keys())}


def restore(client: Any, keys: dict[str, list[Any]]) -> None:
    """The inverse of dumped()."""
    for name, (kind, value) in keys.items():
        if kind == "string":
            client.set(name, raw(value))
        elif kind == "hash":
            client.hset(name, mapping={raw(field): raw(held) for field, held in value.items()})
        elif kind == "set":
            client.sadd(name, *map(raw, value))
        elif kind == "list":
            client.rpush(name, *map(raw, value))
        elif kind == "zset":
            client.zadd(name, {raw(member): score for member, score in value})
        else:
            for entry, fields in value:
                client.xadd(name, {raw(field): raw(held) for field, held in fields.items()}, entry)


def _value(client: Any, kind: str, name: bytes) -> Any:
    reads: dict[str, Any] = {
        "string": lambda: text(client.get(name)),
        "hash": lambda: {text(field): text(value) for field, value in client.hgetall(name).items()},
        "set": lambda: sorted(map(text, client.smembers(name))),
        "list": lambda: [text(value) for value in client.lrange(name, 0, -1)],
        "zset": lambda: [[text(member), score] for member, score in client.zrange(name, 0, -1, withscores=True)],
        "stream": lambda: [
            [text(entry), {text(field): text(value) for field, value in fields.items()}]
            for entry, fields in client.xrange(name)
        ],
    }
    return reads[kind]()


def text(value: Any) -> str:
    return str(value.decode(errors="surrogateescape"))


def raw(value: str) -> bytes:
    return value.encode(errors="surrogateescape")


def main() -> None:
    from tests.conftest import private_redis

    with private_redis() as url:
        store = Store(url, lease_ms=1_000, rules=Rules(events=frozenset(Event)))
        fill(store)
        lines = [f"{json.dumps(name)}: {json.dumps(held)}" for name, held in dumped(redis.Redis.from_url(url)).items()]
        store.close()
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
