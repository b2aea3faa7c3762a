"""Two releases side by side: what an older one wrote is read and served, what a newer one wrote is left to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import config
from artifacts import Shelf
from clock import Clock
from events import Event, Try
from jobs import Artifact, Call, Job, JobType, OutputChunk, Quota, Reason, Request, Status
from neighbours import known, word
from payload import Form, news_body, result_body
from store import Rules, Store
from submission import Options, RetryRule
from tests import records
from tests.api_cases import Client, client, key_of
from tests.store_cases import SUCCESS, due, next_job, request
from timetable import Schedule

RELEASES = sorted((Path(__file__).parent / "data" / "records").glob("*.json"))
LISTS = ["/api/jobs?limit=200&include=result,artifacts,attempts", "/api/stats", "/api/health", "/api/dead-letters",
         "/api/deliveries?state=pending", "/api/deliveries?state=accepted", "/api/deliveries?state=exhausted",
         "/api/schedules", "/api/functions", "/api/workers", "/api/keys", "/metrics"]  # fmt: skip


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    return client(store, Shelf(tmp_path))


# --- an older release -------------------------------------------------------------------------------------------------


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
def older(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Store]:
    """A store over what that release left."""
    store = Store(redis_url, rules=Rules(events=frozenset(Event)))
    records.restore(store._redis, json.loads(request.param.read_text()))
    yield store
    store.close()


def every_job(api: Client, headers: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(LISTS[0], headers=headers).json["jobs"]
    return found


def test_the_form_of_every_release_is_here() -> None:
    """The present release's records are among those that are tried, so that the next one finds them."""
    assert config.VERSION in {path.stem for path in RELEASES}


def test_served(older: Store, tmp_path: Path) -> None:
    """Every list, and every address of every job, is answered by the new API as of old."""
    api, headers = client(older, Shelf(tmp_path)), key_of(older, "*")
    for path in LISTS:
        assert api.get(path, headers=headers).status_int == 200, path
    jobs = every_job(api, headers)

    assert len(jobs) == len(older._redis.keys("cw:job:*"))
    assert {job["status"] for job in jobs} == set(Status)
    for job in jobs:
        for part in ("", "/logs", "/artifacts", "/deliveries", "/bundle"):
            answer = api.get(f"/api/jobs/{job['jobId']}{part}", headers=headers, status="*")
            assert answer.status_int == 200 or (part == "/bundle" and answer.status_int == 409), answer
        assert older.story(job["jobId"], 0, 10)
    (red,) = (job for job in jobs if job["chatId"] == "red")
    assert [(each["decision"], each["reason"]) for each in red["attempts"]] == [
        ("retry", "tests_failed"),
        ("final", "tests_failed"),
    ]
    assert red["retry"]["on"] == ["tests_failed"]
    (done,) = (job for job in jobs if job["chatId"] == "done")
    assert api.get(f"/api/jobs/{done['jobId']}/logs", headers=headers).text == "one\ntwo\n"


def test_gone_on_with(older: Store) -> None:
    """What waited is run, what ran under a worker that is gone is taken over, with all that was asked for."""
    ran = {}
    while job := older.claim("new-worker:1").job:
        ran[job.chat_id] = older.request(job.id)
        older.append_log(job.id, job.fence, [OutputChunk(job.log_lines, 1, 0, "building", "stdout", "new\n")])
        older.finish(job.id, job.fence, SUCCESS)

    assert ran.keys() == {"running", "next", "of-acme"}
    assert (ran["running"].env, ran["running"].steps) == ({"A": "b"}, (JobType.BUILD,))
    assert (ran["next"].binary, ran["next"].artifacts) == ({"a.png": "AAAA"}, ("dist/**",))
    assert ran["next"].files == records.FILES
    figures = older.stats()["builds"]
    assert (figures["waiting"], figures["active"], figures["delayed"]) == (0, 0, 1)


def test_told_on(older: Store) -> None:
    """Deliveries that were still to be made have their bodies, and are made."""
    while older.claim("new-worker:1").job:
        pass
    told = []
    while taken := due(older, 4):
        for delivery in taken:
            job = older.get(delivery.job_id)
            made = result_body if job.status.is_final and delivery.event.path == "result" else None
            body = made(job, delivery, "", Form()) if made else news_body(job, delivery, Form())
            told.append(json.loads(body)["event"])
            older.accept_delivery(delivery, Try(200))

    for waiting in older.deliveries("pending"):  # the next try of one is an hour after the records were written
        older.resend(waiting.delivery.id)
    told += [delivery.event for delivery in due(older)]
    assert {"job.queued", "job.started", Event.FAILED} <= set(told)


def test_kept_on(older: Store) -> None:
    """Functions can be called, keys open, the schedule ticks, pauses hold, a repeated key is the same job."""
    current = older.current_version("ready")
    assert current
    assert (current.number, current.is_strange, current.request.files) == (1, False, records.CODE)
    assert older.function("making").versions[0].package is None
    assert [key.name for key in older.api_keys()] == ["laptop"]
    assert older.closures().paused["tests"].reason == "for a while"
    assert older.figures().counted["http_requests|GET|/api/jobs|200"] == 7
    (schedule,) = older.schedules()
    Clock(older, older.submit, config.load({}).bounds).tick()
    assert older.schedule(schedule.id).last_job
    known_job = older.submit(request(), Options(idempotency_key="key", body_hash="hash"))
    assert (known_job.created, known_job.job.chat_id) == (False, "next")


def test_records_of_this_release() -> None:
    """The program that writes them runs with this code; what it writes is what test_served and the others try."""
    from tests.conftest import private_redis

    with private_redis() as url:
        store = Store(url, lease_ms=1_000, rules=Rules(events=frozenset(Event)))
        records.fill(store)
        now = records.dumped(store._redis)
        store.close()

    kinds = {name.split(":")[1] for name in now}
    kept = {name.split(":")[1] for path in RELEASES[-1:] for name in json.loads(path.read_text())}
    assert kinds <= kept, "a form of record is new: add it to tests/records.py, and record the next release with it"


# --- a newer release --------------------------------------------------------------------------------------------------


def newer_job(store: Store, **fields: str) -> Job:
    """A waiting job whose record a newer release has written with these fields."""
    job = store.add(request())
    store._redis.hset(f"cw:job:{job.id}", mapping=fields)
    return job


@pytest.mark.parametrize("fields", [{"type": "deploy"}, {"asks": "command sidecars"}, {"asks": "call.region"}])
def test_a_job_for_newer_workers(store: Store, redis_url: str, fields: dict[str, str]) -> None:
    """A job of a type, or with a wish, that this release does not know waits for a worker that does; others go on."""
    strange, plain = newer_job(store, **fields), store.add(request())
    assert next_job(store).id == plain.id
    for _ in range(3):
        assert store.claim("w").job is None
        store.tick()

    waiting = store.waiting(strange.id)
    assert waiting
    assert (waiting.blocked_by, waiting.detail) == ("no_worker", "Only a newer release can run it.")
    assert store.stats()["builds"]["waiting"] == 1
    assert store.get(strange.id).status is Status.PENDING
    assert store.quarantined() == []

    newer = Store(redis_url)
    for script in newer._scripts.values():  # as they are where more is known
        text = script.script.replace("local TYPES = {", "local TYPES = {['deploy'] = true, ")
        script.script = text.replace("local ASKS = {", "local ASKS = {['sidecars'] = true, ['call.region'] = true, ")
        script.sha = str(newer._redis.script_load(script.script))
    taken = newer.claim("newer").job
    newer.close()
    assert taken
    assert taken.id == strange.id
    assert taken.attempt == 1


def test_a_job_for_newer_workers_can_be_cancelled(store: Store) -> None:
    """It is in nobody's way: it ends like any other, and nothing of it stays in the line."""
    strange = newer_job(store, type="deploy")
    assert store.claim("w").job is None
    assert store.cancel(strange.id).status is Status.FAILED

    assert store._redis.zcard("cw:left:builds") == store._redis.zcard("cw:waiting:builds") == 0
    store.remove(strange.id)
    assert store._redis.keys(f"*{strange.id}*") == []


def test_a_newer_request_is_not_used_anew(store: Store, api: Client) -> None:
    """Running a job again without what this release does not know would be another job: it is refused."""
    for more in ({"sidecars": ["db"]}, {"type": "deploy"}):
        job = store.add(request())
        stored = json.loads(request().to_bytes()) | more
        store._redis.set(f"cw:request:{job.id}", json.dumps(stored))

        assert api.post(f"/api/jobs/{job.id}/rerun", status=409).json["code"] == "move_refused"


def test_a_queue_of_a_newer_release(store: Store) -> None:
    """Its jobs are not taken for broken records by the upkeep of an older one."""
    job = newer_job(store, type="deploy", queue="deploys")
    store._redis.zrem("cw:waiting:builds", job.id)
    for _ in range(3):
        store.tick()

    assert store.get(job.id).type == "deploy"
    assert store.quarantined() == []


def test_only_what_is_unusual_is_written() -> None:
    """A plain request is written without the names that an older release might not know."""
    plain = Request(JobType.BUILD, {"a": "b"})

    assert json.loads(plain.to_bytes()) == {"type": "build", "files": {"a": "b"}}
    assert plain.asks == []
    called = Request(JobType.FUNCTION, {}, call=Call("node", "a.js", "b", version=3), use_cache=False)
    assert called.asks == ["use_cache", "call", "call.version"]
    assert Request.from_bytes(called.to_bytes()) == called


NEWER: dict[str, str] = {
    "type": "deploy",
    "status": "paused",
    "phase": "deploying",
    "conclusion": "partial",
    "reason": "quota_of_the_moon",
    "region": "moon",
    "retry": json.dumps({"attempts": 2, "on": ["tide_changed"], "delayMs": 1, "backoff": "lunar"}),
    "artifacts": json.dumps([{"path": "a.txt", "size": 1, "sha256": "0" * 64, "media": "text/moon"}]),
    "attempts": json.dumps(
        {"attempt": 1, "fence": 1, "owner": "w", "started_ms": 1, "finished_ms": 2, "conclusion": "partial",
         "reason": "tide_changed", "message": "", "log_from": 0, "log_to": 0, "decision": "fork", "why": "",
         "delay_ms": 0, "moon": 1}
    ),
    "cancel_reason": "eclipse",
    "trace": "moon",
}  # fmt: skip


@pytest.mark.parametrize("field", NEWER)
def test_a_word_of_a_newer_release(store: Store, api: Client, field: str) -> None:
    """Whichever field of a record holds a word that is not known here, the job is listed and shown with it."""
    job = store.add(request())
    ended = store.add(request())
    store._redis.hset(f"cw:job:{job.id}", field, NEWER[field])
    store._redis.hset(f"cw:job:{ended.id}", mapping={"status": "completed", field: NEWER[field]})

    assert {each["jobId"] for each in every_job(api, {})} == {job.id, ended.id}
    for path in ("", "/logs", "/artifacts", "/deliveries"):
        assert api.get(f"/api/jobs/{job.id}{path}").status_int == 200
    assert api.get(f"/api/jobs/{ended.id}/artifacts.zip", status="*").status_int in {200, 404}
    store.tick()
    store.claim("w")
    assert store.quarantined() == []
    if field not in {"status", "attempts", "artifacts", "retry", "region", "trace", "cancel_reason"}:
        assert api.get(f"/api/jobs/{ended.id}").json[field] == NEWER[field]


def test_an_event_of_a_newer_release(store: Store, api: Client) -> None:
    """A webhook that only a newer release can make is left to its senders, holds up no other, and is listed."""
    for _ in range(3):
        job = store.add(request())
        store.finish(job.id, next_job(store).fence, SUCCESS)
    (first, *others) = (name.decode() for name in store._redis.zrange("cw:outbox:default", 0, -1))
    store._redis.hset(f"cw:delivery:{first}", "event", "job.deployed")
    taken, _ = store.claim_deliveries("default", 4, 30_000)
    again, wait_ms = store.claim_deliveries("default", 4, 30_000)

    assert [delivery.id for delivery in taken] == others
    assert (again, wait_ms) == ([], 1_000)  # and not at once, again and again
    assert store.lanes()["default"].pending == 3
    listed = api.get("/api/deliveries?state=pending").json["deliveries"]
    assert "job.deployed" in {each["event"] for each in listed}


def test_happenings_of_a_newer_release(store: Store) -> None:
    """What happens in a way that is not known here is passed over by those who look on."""
    job = store.add(request())
    place = store.newest_happening()
    store._redis.xadd("cw:events", {"job": job.id, "tenant": "", "kind": "moon", "data": json.dumps({"phase": "full"})})
    store._redis.xadd("cw:events", {"job": job.id, "tenant": "", "kind": "state",
                                    "data": json.dumps({"status": "paused", "line": 0, "moon": 1})})  # fmt: skip
    store._redis.rpush(f"cw:events_of:{job.id}", f"1-1 moon {json.dumps({'phase': 'full'})}")
    seen = store.wait_for_happenings(place, 1)

    assert [(each.kind, each.is_end) for each in seen] == [("moon", False), ("state", False)]
    story = store.story(job.id, 0, 10)
    assert story
    assert not story.has_ended


def test_a_log_of_a_newer_release(store: Store) -> None:
    """A chunk that says more than is known here is shown without it."""
    job = store.add(request())
    chunk = {"first_line": 0, "lines": 1, "at_ms": 1, "phase": "deploying", "stream": "moon", "text": "a\n", "tone": 3}
    store._redis.xadd(f"cw:log:{job.id}", {"chunk": json.dumps(chunk)}, "1-0")

    assert [(each.phase, each.text) for each in store.log(job.id)] == [("deploying", "a\n")]


def test_a_schedule_of_a_newer_release(store: Store) -> None:
    """Its words stop no other schedule, and what this release does not know survives its changes."""
    job = {"type": "build", "data": {"projectFiles": {"a": "b"}}}
    past: dict[str, Any] = {"every_s": 3600, "created_ms": 1_700_000_000_000, "next_ms": 1_700_003_600_000}
    for name, own in (("a", {"overlap": "merge"}), ("b", {"jitter_s": 5}), ("c", {})):
        kept = json.loads(Schedule(name, job, **past).to_bytes()) | own
        store._run("put_schedule", name, "", json.dumps(kept).encode(), past["next_ms"])
    Clock(store, store.submit, config.load({}).bounds).tick()
    kept_on = {each.id: each for each in store.schedules()}

    assert (kept_on["a"].last_job, kept_on["a"].next_ms) == ("", past["next_ms"])
    assert kept_on["b"].last_job
    assert kept_on["c"].last_job
    assert json.loads(store._redis.hget("cw:schedule", "b"))["jitter_s"] == 5


def test_a_function_of_a_newer_release(store: Store, api: Client) -> None:
    """It is listed; calling it here would leave out what it asks for, and is refused."""
    wanted = Request(JobType.FUNCTION, {"a.mjs": ""}, call=Call("node", "a.mjs", "handler", name="moon"))
    store.put_version("moon", wanted, "job-" + "1" * 32, Quota())
    store._redis.hset("cw:named:moon", "current", 1)
    request_of = json.loads(wanted.to_bytes())
    for more in ({"sidecars": ["db"]}, {"call": {**request_of["call"], "region": "moon"}}):
        store._redis.hset("cw:version:moon:1", "request", json.dumps({**request_of, **more}))
        store._redis.hset(
            "cw:version:moon:1", "package", json.dumps({"job_id": "j", "fence": 1, "sha256": "0", "size": 1, "moon": 1})
        )
        assert [each["name"] for each in api.get("/api/functions").json["functions"]] == ["moon"]
        assert api.get("/api/functions/moon").status_int == 200
        assert api.post_json("/api/functions/moon/invoke", {}, status=409).json["code"] == "function_not_ready"


def test_a_worker_of_a_newer_release(store: Store, api: Client) -> None:
    """What it says of itself beside what is known here is shown or left out, and the health is still told."""
    facts = {"version": "9", "engine": "answers", "sandbox": [["warn", "no moon", "fix"]], "moon": {"phase": 1}}
    store.heartbeat("newer:1", 2, facts)

    assert api.get("/api/workers").json["workers"][0]["moon"] == {"phase": 1}
    assert api.get("/api/health").json["checks"]["sandbox"]["notes"] == ["no moon"]


def test_a_key_of_a_newer_release(store: Store, api: Client) -> None:
    """Of its scopes those that are known count; with none of them it opens nothing."""
    headers = key_of(store, "*", "read")
    (key,) = store.api_keys()
    store._redis.hset(f"cw:api_key:{key.id}", mapping={"scopes": "read,fly", "moon": "1"})
    assert api.get("/api/jobs", headers=headers).status_int == 200
    store._redis.hset(f"cw:api_key:{key.id}", "scopes", "fly")
    assert store.find_key(key.id)[0] is None


def test_words_and_fields() -> None:
    """A known word is the member; any other stands for itself, and the list stays closed for callers."""
    assert word(Reason, "timeout") is Reason.TIMEOUT
    moon = word(Reason, "moon")
    assert (moon, moon.value, str(moon), moon in set(Reason)) == ("moon", "moon", "moon", False)
    assert RetryRule.from_json({"attempts": 2, "on": ["moon"], "delayMs": 1, "backoff": "fixed"}).to_json()["on"] == [
        "moon"
    ]
    assert not word(Status, "paused").is_final
    with pytest.raises(ValueError, match="moon"):
        Reason("moon")
    assert Artifact(**known(Artifact, {"path": "a", "size": 1, "sha256": "b", "c": 1})) == Artifact("a", 1, "b")
