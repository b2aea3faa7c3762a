"""Every route against every kind of caller: the table of the routes itself decides what is tried."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import config
from access import Scope
from api.handover import HandedOver
from app import JOB_ID, create_app
from artifacts import Shelf
from jobs import Call, JobType, Package, Quota, Request
from store import Store
from submission import Options
from tests.api_cases import FILES, Client, finish, key_of
from tests.store_cases import FAULT, next_job, request
from timetable import Schedule

SUBMISSION = {"type": "build", "data": {"chatId": "chat", "projectFiles": {"a.txt": "hi"}}}


@dataclass(frozen=True)
class Row:
    """How a route is asked for something of tenant acme's, and what that is to another tenant.

    hidden: 404, as if it had never been. apart: an answer in which acme does not occur. refused: 403, for no tenant.
    good: what the owner gets, if not 2xx. raw: a body that is no JSON. named: found by a name that each tenant has for
    itself, and so has a key of all tenants.
    """

    path: str
    other: str
    body: dict[str, Any] | None = None
    named: bool = False
    raw: bytes = b""
    good: int = 0


def archive() -> bytes:
    """A project as an upload has it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    return out.getvalue()


FUNCTION = "/api/functions/{function}"
VERSION = {"runtime": "node", "handler": "index.handler", "files": {"index.mjs": "code"}}
ROWS = {
    ("GET", "/"): Row("/", "apart"),
    ("GET", "/api/health"): Row("/api/health", "apart"),
    ("GET", "/livez"): Row("/livez", "apart"),
    ("GET", "/readyz"): Row("/readyz", "apart"),
    ("GET", "/api/workers"): Row("/api/workers", "refused"),
    ("POST", "/api/workers/<worker>/drain"): Row("/api/workers/w1/drain", "refused", {}),
    ("POST", "/api/workers/<worker>/resume"): Row("/api/workers/w1/resume", "refused", {}),
    ("GET", "/metrics"): Row("/metrics", "refused"),
    ("GET", "/api/stats"): Row("/api/stats", "apart"),
    ("POST", "/api/jobs"): Row("/api/jobs", "apart", SUBMISSION),
    ("GET", "/api/jobs/<job_id>/events"): Row("/api/jobs/{done}/events", "hidden"),
    ("GET", "/api/events"): Row("/api/events", "apart"),
    ("GET", "/api/openapi.json"): Row("/api/openapi.json", "apart"),
    ("GET", "/docs"): Row("/docs", "apart"),
    ("GET", "/api/jobs"): Row("/api/jobs?limit=50", "apart"),
    ("POST", "/api/jobs/batch"): Row("/api/jobs/batch", "apart", {"jobs": [SUBMISSION]}),
    ("GET", "/api/jobs/<job_id>"): Row("/api/jobs/{done}", "hidden"),
    ("GET", "/api/jobs/<job_id>/logs"): Row("/api/jobs/{done}/logs", "hidden"),
    ("GET", "/api/jobs/<job_id>/artifacts"): Row("/api/jobs/{done}/artifacts", "hidden"),
    ("GET", "/api/jobs/<job_id>/artifacts.tar.gz"): Row("/api/jobs/{done}/artifacts.tar.gz", "hidden"),
    ("GET", r"/api/jobs/<job_id>/artifacts/<path:re:[\s\S]+>"): Row("/api/jobs/{done}/artifacts/index.html", "hidden"),
    ("POST", "/api/jobs/<job_id>/cancel"): Row("/api/jobs/{done}/cancel", "hidden", {}),
    ("POST", "/api/jobs/<job_id>/rerun"): Row("/api/jobs/{done}/rerun", "hidden", {}),
    ("DELETE", "/api/jobs/<job_id>"): Row("/api/jobs/{done}", "hidden"),
    ("GET", "/api/dead-letters"): Row("/api/dead-letters", "apart"),
    ("POST", "/api/dead-letters/replay"): Row("/api/dead-letters/replay", "apart", {}),
    ("POST", "/api/dead-letters/<job_id>/replay"): Row("/api/dead-letters/{dead}/replay", "hidden", {}),
    ("DELETE", "/api/dead-letters/<job_id>"): Row("/api/dead-letters/{dead}", "hidden"),
    ("POST", "/api/queues/<queue>/pause"): Row("/api/queues/builds/pause", "refused", {}),
    ("POST", "/api/queues/<queue>/drain"): Row("/api/queues/builds/drain", "refused", {}),
    ("POST", "/api/queues/<queue>/resume"): Row("/api/queues/builds/resume", "refused", {}),
    ("GET", "/api/jobs/<job_id>/deliveries"): Row("/api/jobs/{done}/deliveries", "hidden"),
    ("GET", "/api/deliveries"): Row("/api/deliveries", "apart"),
    ("POST", "/api/deliveries/<delivery_id>/resend"): Row("/api/deliveries/{delivery}/resend", "hidden", {}),
    ("POST", "/api/webhooks/test"): Row("/api/webhooks/test", "refused", {}),
    ("POST", "/api/webhooks/<name>/enable"): Row("/api/webhooks/default/enable", "refused", {}),
    ("GET", "/api/schedules"): Row("/api/schedules", "apart"),
    ("POST", "/api/schedules"): Row("/api/schedules", "apart", {"everySeconds": 60, "job": SUBMISSION}),
    ("GET", "/api/schedules/<schedule_id>"): Row("/api/schedules/{schedule}", "hidden"),
    ("DELETE", "/api/schedules/<schedule_id>"): Row("/api/schedules/{schedule}", "hidden"),
    ("POST", "/api/schedules/<schedule_id>/pause"): Row("/api/schedules/{schedule}/pause", "hidden", {}),
    ("POST", "/api/schedules/<schedule_id>/resume"): Row("/api/schedules/{schedule}/resume", "hidden", {}),
    ("POST", "/api/schedules/<schedule_id>/run"): Row("/api/schedules/{schedule}/run", "hidden", {}),
    ("GET", "/api/functions"): Row("/api/functions", "apart"),
    ("GET", "/api/functions/<name>"): Row(FUNCTION, "hidden", named=True),
    ("PUT", "/api/functions/<name>"): Row("/api/functions/another", "apart", VERSION),
    ("DELETE", "/api/functions/<name>"): Row(FUNCTION, "hidden", named=True),
    ("POST", "/api/functions/<name>/invoke"): Row(FUNCTION + "/invoke", "hidden", {}, named=True),
    ("POST", "/api/functions/<name>/rollback"): Row(FUNCTION + "/rollback", "hidden", {"version": 1}, named=True),
    ("PUT", "/api/uploads"): Row("/api/uploads", "apart", raw=archive()),
    ("GET", "/api/jobs/<job_id>/artifacts.zip"): Row("/api/jobs/{done}/artifacts.zip", "hidden"),
    ("GET", "/api/jobs/<job_id>/bundle"): Row("/api/jobs/{done}/bundle", "hidden", good=409),  # it ran in no sandbox
    ("POST", "/api/jobs/<job_id>/preview"): Row("/api/jobs/{done}/preview", "hidden", {}),
    ("GET", "/preview/<ticket>"): Row("/preview/{ticket}", "apart", good=307),
    ("GET", r"/preview/<ticket>/<path:re:[\s\S]*>"): Row("/preview/{ticket}/index.html", "apart"),
    ("GET", "/api/keys"): Row("/api/keys", "apart"),
    ("POST", "/api/keys"): Row("/api/keys", "apart", {"scopes": ["read"]}),
    ("DELETE", "/api/keys/<key_id>"): Row("/api/keys/{key}", "hidden"),
}
ALL = pytest.mark.parametrize(("method", "rule"), ROWS)


def good(method: str, rule: str) -> set[int]:
    """What whoever may gets."""
    return {ROWS[method, rule].good} - {0} or {200, 201, 202, 204}


def plain(rule: str) -> str:
    """A rule as the table of the routes has it."""
    return rule.replace(JOB_ID, "<job_id>")


class World:
    """The API, a finished job, a dead letter, their deliveries and a key of tenant acme, and callers of all kinds."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        settings = config.load({"CONVEX_SITE_URL": "http://127.0.0.1:1", "WEBHOOK_SECRET": "whsec_" + "A" * 44})
        self.store = store
        self.app = create_app(settings, store, shelf, store.submit)
        self.api = Client(self.app)
        store.submit(request(), Options(tenant="acme"))
        done = finish(store, shelf, next_job(store), FILES)
        store.submit(request(), Options(tenant="acme"))
        dead = next_job(store)
        store.finish(dead.id, dead.fence, FAULT)
        store.heartbeat("w1", 1, {"engine": "answers"})
        self.owner = key_of(store, "acme")
        (delivery, *_) = store.deliveries_of(done.id)
        self.names = {"done": done.id, "dead": dead.id, "delivery": delivery.delivery.id, "key": self.key_id}
        planned = Schedule(
            "sched-theirs", SUBMISSION, tenant="acme", every_s=60, created_ms=1, next_ms=9_000_000_000_000
        )
        store.add_schedule(planned)
        self.names["schedule"] = planned.id
        call = Call("node", "index.mjs", "handler", name="acme/days-of-acme", version=1)
        store.put_version("acme/days-of-acme", Request(JobType.FUNCTION, {}, call=call), done.id, Quota())
        store.settle_version("acme/days-of-acme", 1, Package(done.id, 1, "0" * 64, 4), Quota())
        self.names["function"] = "days-of-acme"
        link = self.api.post_json(f"/api/jobs/{done.id}/preview", {}, headers=self.owner).json["url"]
        self.names["ticket"] = link.split("/")[-2]

    @property
    def key_id(self) -> str:
        return self.store.api_keys()[0].id

    def scope(self, method: str, rule: str) -> str:
        return next(str(r.config["scope"]) for r in self.app.routes if (r.method, plain(r.rule)) == (method, rule))

    def ask(self, method: str, rule: str, headers: dict[str, str]) -> Any:
        row = ROWS[method, rule]
        send = {"GET": self.api.get, "DELETE": self.api.delete, "PUT": self.api.put_json, "POST": self.api.post_json}[
            method
        ]
        if row.raw:
            return self.api.put(row.path, row.raw, headers=headers, content_type="application/gzip", expect_errors=True)
        body = {"params": row.body} if row.body is not None else {}
        try:
            return send(row.path.format(**self.names), headers=headers, expect_errors=True, **body)
        except HandedOver:  # a stream that has begun; what it shows is tested with the feeds
            return SimpleNamespace(status_code=200, text="")


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    return World(store, Shelf(tmp_path))


def test_every_route_has_a_row(world: World) -> None:
    """A route that is added must be added to the table above too."""
    routed = {(route.method, plain(route.rule)) for route in world.app.routes}

    assert {(method, rule.replace("/api/v1/", "/api/", 1)) for method, rule in routed} == set(ROWS)


@ALL
def test_owner(world: World, method: str, rule: str) -> None:
    """The owner's key with all scopes gets all; what concerns all tenants takes a key of all tenants."""
    headers = key_of(world.store, "*") if ROWS[method, rule].other == "refused" else world.owner

    assert world.ask(method, rule, headers).status_code in good(method, rule)


@ALL
def test_all_tenants(world: World, method: str, rule: str) -> None:
    """A key of all tenants gets everything of everybody's; only names are its own."""
    expected = {404} if ROWS[method, rule].named else good(method, rule)
    assert world.ask(method, rule, key_of(world.store, "*")).status_code in expected


@ALL
def test_other_tenant(world: World, method: str, rule: str) -> None:
    """Another tenant's key with all scopes learns nothing: neither that something is there, nor what."""
    answer = world.ask(method, rule, key_of(world.store, "other"))

    if ROWS[method, rule].other == "hidden":
        assert answer.status_code == 404
        assert answer.json == unknown(world, method, rule, answer.json)
    elif ROWS[method, rule].other == "refused":
        assert answer.status_code == 403
    else:
        assert answer.status_code in good(method, rule)
        assert not [name for name in (*world.names.values(), "acme") if name in answer.text]


def unknown(world: World, method: str, rule: str, given: dict[str, Any]) -> dict[str, Any]:
    """The answer about something that never was, told of what `given` tells of."""
    named = world.names
    world.names = {"done": "job-" + "0" * 32, "dead": "job-" + "1" * 32, "key": "0" * 12, "schedule": "sched-0"}
    world.names |= {"function": "zzzz", "ticket": "y" * 52}
    world.names["delivery"] = f"job-{'2' * 32}-1.default"
    answer = world.ask(method, rule, key_of(world.store, "other")).json
    told = {**answer, "requestId": given["requestId"], "instance": given["instance"]}
    for name, never in world.names.items():
        told = {field: re.sub(never, named[name], str(text)) for field, text in told.items()} | {"status": 404}
    world.names = named
    return told


def test_other_tenant_changed_nothing(world: World) -> None:
    """After another tenant has tried every route, everything of acme's is as it was."""
    before = snapshot(world)
    other = key_of(world.store, "other")
    for method, rule in ROWS:
        world.ask(method, rule, other)

    assert snapshot(world) == before


def snapshot(world: World) -> list[Any]:
    kept = [world.store.get(world.names[name]) for name in ("done", "dead")]
    letters = [letter.job.id for letter in world.store.dead_letters() if letter.job.tenant == "acme"]
    others = [world.store.schedules()[0], world.store.function("acme/days-of-acme")]
    listed = [each for each in world.store.deliveries("pending", None, 1000) if each.tenant == "acme"]
    keys = [key for key in world.store.api_keys() if key.tenant == "acme" and not key.last_used_ms]
    return [*kept, letters, *others, listed, keys, world.store.closures()]


@ALL
def test_without_a_key(world: World, method: str, rule: str) -> None:
    """Without a key only what is open answers; the rest is 401 and names the way in."""
    answer = world.ask(method, rule, {})

    if world.scope(method, rule) == "open":
        assert answer.status_code in good(method, rule)
    else:
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@ALL
def test_useless_keys(world: World, method: str, rule: str) -> None:
    """A revoked key, an expired one, a wrong one, and what is no key at all get one and the same 401."""
    if world.scope(method, rule) == "open":
        return
    answers = [world.ask(method, rule, headers) for headers in useless_keys(world)]

    assert [answer.status_code for answer in answers] == [401] * len(answers)
    texts = {re.sub('"requestId":"[^"]*"', "", answer.text) for answer in answers}
    assert len(texts) == 1


def useless_keys(world: World) -> list[dict[str, str]]:
    revoked = key_of(world.store, "acme")
    world.store.revoke_key(revoked["Authorization"][10:22])
    expired = key_of(world.store, "acme", lifetime_ms=1)
    token = world.owner["Authorization"]
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    return [revoked, expired, *({"Authorization": text} for text in (wrong, token[:-1], "Bearer x", "Bearer ", "x"))]


@ALL
def test_wrong_scope(world: World, method: str, rule: str) -> None:
    """A key with every scope but the one that is needed (and admin, which has all) is 403, and is told which."""
    scope = world.scope(method, rule).split()[0]
    lacking = key_of(world.store, "*", *(set(Scope) - {scope, Scope.ADMIN}))
    if scope == "open":
        assert world.ask(method, rule, lacking).status_code in good(method, rule)
        return
    answer = world.ask(method, rule, lacking)

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert f"scope {scope}" in answer.json["detail"]
