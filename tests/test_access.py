"""API keys: made, used, revoked, expired, and what is told of them."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis

import cli
import config
from access import ALL_TENANTS, Scope, is_tenant, new_key, read_token
from api import guard, keys
from api.feeds import START, AllFeed
from app import create_app
from artifacts import Shelf
from errors import StoreUnavailable
from store import Store
from submission import Options
from tests.api_cases import Client, client, key_of
from tests.store_cases import request

SUBMISSION = {"type": "build", "data": {"chatId": "c", "projectFiles": {"a.txt": "hi"}}}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


def service(store: Store, shelf: Shelf, **settings: str) -> Client:
    """The API with these settings."""
    return Client(create_app(config.load(settings), store, shelf, store.submit))


def without_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "KNOWN_S", -1.0)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_token_is_kept_nowhere(api: Client, store: Store, redis_url: str) -> None:
    """Redis has a key's id and the hash of its secret, and nothing from which the token could be made again."""
    made = api.post_json("/api/keys", {"tenant": "acme", "scopes": ["read"], "name": "ci"}).json
    raw = redis.Redis.from_url(redis_url)
    stored = repr({key: raw.dump(key) for key in raw.keys("cw:*")}) + repr(raw.hgetall(f"cw:api_key:{made['id']}"))

    token = made.pop("token")
    assert re.fullmatch(r"cw_[0-9a-f]{12}_[0-9a-f]{64}", token)
    assert token.rpartition("_")[2] not in stored
    assert made["id"] in stored
    (listed,) = api.get("/api/keys", headers={"Authorization": f"Bearer {key_of_all(store)}"}).json["keys"][:1]
    assert (listed["id"], listed["scopes"], listed["tenant"], listed["name"]) == (made["id"], ["read"], "acme", "ci")
    assert "token" not in listed


def key_of_all(store: Store) -> str:
    return key_of(store, ALL_TENANTS)["Authorization"].removeprefix("Bearer ")


def test_one_look_up_a_second(api: Client, store: Store, redis_url: str) -> None:
    """A key is looked up once in a second, however many requests it makes."""
    headers = key_of(store, "acme")
    api.get("/api/jobs/x", headers=headers, status=404)
    raw = redis.Redis.from_url(redis_url)
    before = raw.info("commandstats")["cmdstat_hgetall"]["calls"]
    began = time.monotonic()
    for _ in range(20):
        api.get("/api/jobs/x", headers=headers, status=404)

    look_ups = raw.info("commandstats")["cmdstat_hgetall"]["calls"] - before
    assert look_ups <= time.monotonic() - began + 1


def test_revocation_works_within_a_second(api: Client, store: Store) -> None:
    """A key that was just used opens nothing a second after its revocation."""
    headers = key_of(store, "acme")
    api.get("/api/stats", headers=headers)
    store.revoke_key(store.api_keys()[0].id)
    deadline = time.monotonic() + guard.KNOWN_S + 0.5
    while api.get("/api/stats", headers=headers, expect_errors=True).status_code == 200:
        assert time.monotonic() < deadline, "the key still works"
        time.sleep(0.02)


def test_expiry_is_exact(api: Client, store: Store) -> None:
    """A key ends at its moment, not when it is looked up the next time."""
    headers = key_of(store, "acme", lifetime_ms=300)
    assert api.get("/api/stats", headers=headers).status_code == 200
    expires_ms = store.api_keys()[0].expires_ms
    while store.find_key("")[2] <= expires_ms:
        time.sleep(0.01)

    assert api.get("/api/stats", headers=headers, status=401)


def test_last_use_is_known_to_the_minute(api: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use of a key is written down, and the next ones of the same minute are not."""
    without_cache(monkeypatch)
    headers = key_of(store, "acme")
    assert store.api_keys()[0].last_used_ms == 0
    api.get("/api/stats", headers=headers)
    first = store.api_keys()[0].last_used_ms
    api.get("/api/stats", headers=headers)

    assert first > 0
    assert store.api_keys()[0].last_used_ms == first


def test_revoking_twice_keeps_the_first_moment(store: Store) -> None:
    """The moment of a revocation is that of the first one."""
    key_of(store, "acme")
    key_id = store.api_keys()[0].id
    first = store.revoke_key(key_id).revoked_ms
    time.sleep(0.002)

    assert store.revoke_key(key_id).revoked_ms == first > 0


def test_broken_key_opens_nothing(api: Client, store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key whose record was damaged opens nothing, and the service stays locked."""
    without_cache(monkeypatch)
    headers = key_of(store, "acme")
    redis.Redis.from_url(redis_url).hset(f"cw:api_key:{store.api_keys()[0].id}", "scopes", "everything")

    assert api.get("/api/stats", headers=headers, status=401)
    assert api.get("/api/stats", status=401)


@pytest.mark.parametrize("made", ["", "cw_", "cw_" + "0" * 77, "cw_" + "g" * 12 + "_" + "0" * 64, "x" * 10_000_000])
def test_no_token(made: str) -> None:
    """What does not look like a token is told from one without Redis."""
    assert read_token(made) is None


def test_digests_of_any_difference_take_the_same_way() -> None:
    """A digest is compared as a whole: one wrong in its first digit is refused like one wrong in its last."""
    key, token = new_key("acme", frozenset({Scope.READ}))
    digest = (read_token(token) or ("", ""))[1]

    assert key.opens(digest, 1)
    assert not key.opens("0" * 64, 1)
    assert not key.opens(digest[:-1] + ("0" if digest[-1] != "0" else "1"), 1)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 33, "**", "a\n", "ü", "a.b"])
def test_no_tenant(name: str) -> None:
    """A tenant's name has small letters, digits, - and _ only."""
    assert not is_tenant(name)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["#/scopes"]),
        ({"scopes": []}, ["#/scopes"]),
        ({"scopes": "read"}, ["#/scopes"]),
        ({"scopes": [["read"]]}, ["#/scopes"]),
        ({"scopes": ["read"], "tenant": "A", "expires": "1y", "name": "a\n", "x": 1},
         ["#/tenant", "#/name", "#/expires", "#/x"]),
        ({"scopes": ["read"], "expires": 90}, ["#/expires"]),
        ({"scopes": ["read"], "expires": "9999d"}, ["#/expires"]),
    ],
)  # fmt: skip
def test_wrong_wishes(api: Client, store: Store, body: dict[str, Any], pointers: list[str]) -> None:
    """A key that cannot be made is refused with all mistakes at once, and none is made."""
    answer = api.post_json("/api/keys", body, status=400)

    assert [each["pointer"] for each in answer.json["errors"]] == pointers
    assert store.api_keys() == []


def test_a_tenant_makes_its_own_keys_only(api: Client, store: Store) -> None:
    """A tenant's admin makes keys of the tenant, without saying so, and for nobody else."""
    admin = key_of(store, "acme", "admin")

    assert api.post_json("/api/keys", {"scopes": ["read"]}, headers=admin).json["tenant"] == "acme"
    for tenant in ("other", "*"):
        api.post_json("/api/keys", {"scopes": ["read"], "tenant": tenant}, headers=admin, status=403)


def test_commands(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are made, listed and revoked from the command line; the token made there opens the API."""
    settings = config.load({"REDIS_URL": redis_url})
    monkeypatch.setattr(config, "load", lambda: settings)
    assert cli.main(["keys", "create", "--tenant", "acme", "--scope", "submit,read", "--expires", "90d"]) == 0
    token = re.search(r"cw_\w+", capsys.readouterr().out)
    assert token
    key_id = token[0][3:15]
    assert cli.main(["keys", "list"]) == 0
    assert f"{key_id}: tenant acme, may read submit, expires " in capsys.readouterr().out
    assert cli.main(["keys", "revoke", key_id]) == 0
    assert "revoked" in capsys.readouterr().out
    assert cli.main(["keys", "revoke", "0" * 12]) == 2
    assert cli.main(["keys", "create", "--scope", "rea"]) == 2


# --- without keys -----------------------------------------------------------------------------------------------------


def test_without_keys_only_this_machine(store: Store, shelf: Shelf) -> None:
    """With no key everything is open on loopback; not on a network, and not through a proxy, unless that is wanted."""
    local, network = service(store, shelf), service(store, shelf, HOST="0.0.0.0")
    wanted = service(store, shelf, HOST="0.0.0.0", ALLOW_ANONYMOUS="true")
    proxied = {"X-Forwarded-For": "203.0.113.7"}

    assert local.get("/api/stats").status_code == 200
    assert local.get("/api/stats", headers=proxied, status=401)
    assert network.get("/api/stats", status=401)
    assert network.get("/api/health").json["redis"] == "connected"
    assert wanted.get("/api/stats", headers=proxied).status_code == 200


def test_never_open_again(store: Store, shelf: Shelf) -> None:
    """Once there was a key, none is needed never again: not even after the last one was revoked."""
    key_of(store, "acme")
    store.revoke_key(store.api_keys()[0].id)

    assert service(store, shelf, ALLOW_ANONYMOUS="true").get("/api/stats", status=401)


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False),
    ("10.0.0.1", False), ("example.com", False),
])  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    """Which values of HOST reach no further than this machine."""
    assert config.load({"HOST": host}).is_loopback is loopback


@pytest.mark.parametrize(("publish", "loopback"), [
    ("127.0.0.1:3001", True), ("[::1]:3001", True), ("localhost:80", True), ("3001", False), ("0.0.0.0:3001", False),
    (":3001", False), ("192.0.2.1:3001", False),
])  # fmt: skip
def test_published(publish: str, loopback: bool) -> None:
    """In a container, where its port is published says who reaches it."""
    assert config.load({"HOST": "0.0.0.0", "PUBLISH": publish}).is_loopback is loopback


def test_locked_out_at_the_start(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service on a network without keys does not start, and says what to do; on loopback it says that it is open."""
    import app

    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    caplog.set_level(logging.INFO)

    app.require_lock(config.load({"HOST": "0.0.0.0"}), store)
    assert ended == [app.UNLOCKED_EXIT]
    assert "cli.py keys create" in caplog.text
    app.require_lock(config.load({}), store)
    assert "this machine alone" in caplog.text
    key_of(store, "acme")
    app.require_lock(config.load({"HOST": "0.0.0.0"}), store)
    assert ended == [app.UNLOCKED_EXIT]


def test_unknown_state_lets_nobody_in(store: Store, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is away nobody is let in, with or without a key; the health says why."""

    def away(_: str) -> None:
        raise StoreUnavailable("away")

    headers = key_of(store, "acme")
    monkeypatch.setattr(store, "find_key", away)
    api = service(store, shelf)

    assert api.get("/api/stats", headers=headers, status=503)
    assert api.get("/api/stats", status=503)


# --- tenants ----------------------------------------------------------------------------------------------------------


def test_names_of_tenants_are_apart(api: Client, store: Store) -> None:
    """The same idempotency key, body and chat of two tenants are different ones."""
    acme, other = key_of(store, "acme"), key_of(store, "other")
    first = api.post_json("/api/jobs", SUBMISSION, headers={**acme, "Idempotency-Key": "k"})
    again = api.post_json("/api/jobs", SUBMISSION, headers={**acme, "Idempotency-Key": "k"})
    elsewhere = api.post_json("/api/jobs", SUBMISSION, headers={**other, "Idempotency-Key": "k"})
    same_body = [api.post_json("/api/jobs", SUBMISSION, headers=who).json["jobId"] for who in (acme, other, acme)]
    superseding = api.post_json("/api/jobs", {**SUBMISSION, "supersede": True}, headers=other).json["jobId"]

    assert (first.status_code, again.status_code, elsewhere.status_code) == (201, 200, 201)
    assert first.json["jobId"] == again.json["jobId"]
    assert same_body[0] == same_body[2] != same_body[1]
    assert store.get(first.json["jobId"]).status == "pending"
    assert store.get(elsewhere.json["jobId"]).reason == "superseded"
    assert store.get(superseding).tenant == "other"


def test_chat_limit_is_per_tenant(redis_url: str) -> None:
    """One tenant's running chat does not hold back another tenant's chat of the same name."""
    from store import Rules
    from submission import Options

    limited = Store(redis_url, rules=Rules(chat_limit=1))
    for tenant in ("acme", "other", "acme"):
        limited.submit(request(chat_id="c"), Options(tenant=tenant))

    claimed = [limited.claim("w").job for _ in range(3)]

    assert [job.tenant if job else None for job in claimed] == ["acme", "other", None]
    limited.close()


def test_tenants_take_turns(store: Store) -> None:
    """A tenant with many jobs does not keep another one waiting behind all of them."""
    from submission import Options

    for tenant in ("acme", "acme", "acme", "other"):
        store.submit(request(), Options(tenant=tenant))

    assert [job.tenant for job in (store.claim("w").job for _ in range(4)) if job] == ["acme", "other", "acme", "acme"]


def test_stats_are_a_tenants_own(api: Client, store: Store) -> None:
    """A tenant's stats follow its jobs through all states, and through none of others; they agree with the whole."""
    from jobs import Conclusion, Result
    from submission import Options

    for tenant, delay_ms in (("acme", 0), ("other", 0), ("acme", 60_000), ("acme", 0)):
        store.submit(request(), Options(tenant=tenant, delay_ms=delay_ms))
    headers = key_of(store, "acme")

    def builds() -> list[int]:
        figures = api.get("/api/stats", headers=headers).json["queues"]["builds"]
        return [figures[name] for name in ("waiting", "delayed", "active", "completed", "failed")]

    assert builds() == [2, 1, 0, 0, 0]
    jobs = [job for job in (store.claim("w").job for _ in range(3)) if job]
    assert builds() == [0, 1, 2, 0, 0]
    for job in jobs:
        store.finish(job.id, job.fence, Result(Conclusion.SUCCESS))
    assert builds() == [0, 1, 0, 2, 0]
    own = api.get("/api/stats", headers=headers).json
    assert (own["counters"]["added"], own["counters"]["ended_success"], "webhooks" in own) == (3, 2, False)
    assert own["counters"]["bytes"] > 0
    for job in jobs:
        store.remove(job.id)
    assert builds() == [0, 1, 0, 0, 0]
    assert store.tenant_figures("acme")[1]["bytes"] == 0
    whole = api.get("/api/stats", headers=key_of(store, "*")).json["queues"]["builds"]
    assert whole == {"waiting": 0, "delayed": 1, "active": 0, "completed": 0, "failed": 0}


def test_health_tells_strangers_nothing(api: Client, store: Store) -> None:
    """With keys in use, health gives details to their bearers alone; a wrong key is told so."""
    headers = key_of(store, "acme", "read")
    store.pause(reason="the customer acme did not pay")
    told = api.get("/api/health").json

    assert set(told) == {"status", "redis", "error", "message", "version", "timestamp"}
    assert (told["status"], told["message"]) == ("degraded", "Not all is well: ask with an API key to learn more.")
    assert "did not pay" in api.get("/api/health", headers=headers).text
    assert api.get("/api/health", headers={"Authorization": "Bearer wrong"}, status=401)


def test_own_pages_among_many_others(api: Client, store: Store) -> None:
    """A tenant's dead letters are found among those of others, page by page, each once."""
    from submission import Options
    from tests.store_cases import FAULT, next_job

    for number in range(130):
        store.submit(request(), Options(tenant="acme" if number % 2 else "other"))
        job = next_job(store)
        store.finish(job.id, job.fence, FAULT)
    headers = key_of(store, "acme")
    found, address = [], "/api/dead-letters"
    while address:
        page = api.get(address, headers=headers).json
        found += [letter["jobId"] for letter in page["deadLetters"]]
        address = f"/api/dead-letters?cursor={page['next']}" if page["next"] else ""

    assert len(found) == len(set(found)) == 65
    assert {store.get(job_id).tenant for job_id in found} == {"acme"}


def test_operators_are_on_record(api: Client, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """What an operator does is a line in the log: the action, the key's id, the tenant and the address."""
    caplog.set_level(logging.INFO)
    headers = key_of(store, "*")
    api.post_json("/api/queues/builds/pause", {"reason": "x\nforged audit line"}, headers=headers)
    api.get("/api/keys", headers=headers)

    (event,) = [vars(record) for record in caplog.records if record.getMessage() == "audit"]
    assert event["action"] == "POST /api/queues/builds/pause"
    assert event["key"] == store.api_keys()[0].id
    assert (event["tenant"], event["status"]) == ("*", 200)
    assert headers["Authorization"][-64:] not in caplog.text


def test_keys_command_parts() -> None:
    """A span is read as its unit says; nothing stands for ever."""
    assert [keys._lifetime_ms(span) for span in ("", "1m", "2h", "3d", "0d", "d", "1w")] == [
        0, 60_000, 7_200_000, 259_200_000, None, None, None
    ]  # fmt: skip


def test_lists_of_tenants(api: Client, store: Store) -> None:
    """A tenant finds its own jobs, by any filter and by ids; a key of all tenants finds everybody's, once each."""
    own = {
        tenant: store.submit(request(chat_id="c"), Options(tenant=tenant)).job.id for tenant in ("acme", "other", "")
    }
    acme, everybody = key_of(store, "acme"), key_of(store, "*")
    ids = ",".join(own.values())

    for address in ("/api/jobs", "/api/jobs?chatId=c&status=pending", f"/api/jobs?ids={ids}"):
        assert [job["jobId"] for job in api.get(address, headers=acme).json["jobs"]] == [own["acme"]]
        assert {job["jobId"] for job in api.get(address, headers=everybody).json["jobs"]} == set(own.values())
    assert api.get(f"/api/jobs?ids={ids}", headers=acme).json["missing"] == [own["other"], own[""]]
    store.cancel(own["acme"])
    store.remove(own["acme"])
    assert len(api.get("/api/jobs", headers=everybody).json["jobs"]) == 2


def test_events_of_tenants(store: Store) -> None:
    """A tenant's stream of all events tells of its own jobs alone; that of a key of all tenants of everybody's."""
    jobs = [store.submit(request(), Options(tenant=tenant)).job.id for tenant in ("acme", "other")]

    def told(tenant: str | None) -> list[bool]:
        shown, _ = AllFeed(("state",), START, tenant).read(store)
        return [job_id.encode() in shown for job_id in jobs]

    assert (told("acme"), told("other"), told(None)) == ([True, False], [False, True], [True, True])
