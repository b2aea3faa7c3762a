"""Sender and receiver together: the real webhook.py over real HTTP into the real code of convex/."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import intake
import payload
import webhook
from errors import SignatureMismatch
from events import Delivery, Event, News
from jobs import Conclusion, Endpoint, Job, JobType, Phase, PhaseTime, Reason, Result, Status, iso, new_id
from payload import Form
from tests.convex.conftest import Site
from webhook import Sender, Verdict

pytestmark = pytest.mark.engine

PATHS = {"result": "/api/v1/hooks/worker-result", "progress": "/api/v1/hooks/worker-progress"}
NOW_MS = 1_800_000_000_123


@pytest.fixture
def sender(site: Site) -> Iterator[Sender]:
    with contextlib.closing(Sender(endpoint(site, site.secret))) as made:
        yield made


def endpoint(site: Site, *secrets: str) -> Endpoint:
    return Endpoint(site.url, secrets, PATHS)


def ended(reason: Reason | None = None, **changes: Any) -> Job:
    """A job as the store has it after its end."""
    conclusion = reason.conclusion if reason else Conclusion.SUCCESS
    phases = (PhaseTime("installing", 2_000), PhaseTime("building", 500))
    result = Result(conclusion, reason, command="npm run build", exit_code=0, phases=phases, detail={"tool": "vite"})
    job = Job(
        id=new_id(),
        type=JobType.BUILD,
        status=result.status,
        priority=5,
        created_ms=NOW_MS - 3_000,
        started_ms=NOW_MS - 2_600,
        finished_ms=NOW_MS,
        chat_id="chat-größe",
        attempt=2,
        seq=9,
        progress=100,
        conclusion=conclusion.value,
        reason=reason.value if reason else "",
        result=result.to_json(),
    )
    return replace(job, **changes)


def running(**changes: Any) -> Job:
    base = ended(status=Status.ACTIVE, conclusion="", finished_ms=0, result={}, attempt=1, seq=1)
    return replace(base, **{"progress": 40, "phase": "building", **changes})


def delivery(job: Job, event: Event) -> Delivery:
    """The delivery of the event that `job` is at."""
    news = News(job.status.value, job.attempt, job.progress, job.phase, NOW_MS)
    return Delivery(f"{job.id}-{job.seq}.default", job.id, event, "default", 1, 1, NOW_MS, job.seq, news)


def result_body(job: Job, log: str) -> bytes:
    event = Event.COMPLETED if job.status is Status.COMPLETED else Event.FAILED
    if job.conclusion == Conclusion.CANCELLED:
        event = Event.CANCELLED
    return payload.result_body(job, delivery(job, event), log, Form())


def progress_body(job: Job, event: Event = Event.PROGRESS) -> bytes:
    return payload.news_body(job, delivery(job, event), Form())


def test_result(site: Site, sender: Sender) -> None:
    """Everything that a result says arrives, paths beyond ASCII and characters beyond 16 bits included."""
    artifacts = ({"path": "größe/naïve 🍲 ☃.html", "size": 3, "sha256": "0" * 64},)
    job = ended(Reason.BUILD_FAILED, artifacts=artifacts, message="zu groß 🍲")

    outcome = sender.post(f"{job.id}-9", "result", result_body(job, "one\ntwo ☃\n"))

    assert (outcome.verdict, outcome.note) == (Verdict.ACCEPTED, 'HTTP 200 {"outcome":"applied"}')
    row = site.job()
    assert json.loads(row.pop("resultJson")) == {
        "exitCode": 0,
        "command": "npm run build",
        "skippedArtifacts": [],
        "tool": "vite",
    }
    del row["_id"], row["_creationTime"], row["checkAt"]
    assert row == {
        "jobId": job.id,
        "type": "build",
        "chatId": "chat-größe",
        "status": "failed",
        "conclusion": "failure",
        "reason": "build_failed",
        "message": "zu groß 🍲",
        "attempt": 2,
        "seq": 9,
        "phases": [{"name": "installing", "durationMs": 2_000}, {"name": "building", "durationMs": 500}],
        "resultOmitted": [],
        "artifacts": [
            {
                **artifacts[0],
                "href": f"/api/jobs/{job.id}/artifacts/gr%C3%B6%C3%9Fe/na%C3%AFve%20%F0%9F%8D%B2%20%E2%98%83.html",
            }
        ],
        "artifactCount": 1,
        "output": "one\ntwo ☃",
        "durationMs": 2_600,
        "finishedAt": NOW_MS,
        "tries": 0,
    }


@pytest.mark.parametrize("reason", [None, *Reason], ids=lambda reason: reason or "success")
def test_every_end(site: Site, sender: Sender, reason: Reason | None) -> None:
    """Every way in which a job can end is taken, and kept in the sender's words."""
    job = ended(reason)

    assert sender.post(f"{job.id}-9", "result", result_body(job, "")).verdict is Verdict.ACCEPTED

    row = site.job()
    assert (row["status"], row["conclusion"], row.get("reason", "")) == (job.status, job.conclusion, job.reason)


def test_every_phase(site: Site, sender: Sender) -> None:
    """Progress in every phase of every type is taken, and the row is at the last one."""
    job = running()
    for seq, phase in enumerate(Phase, start=1):
        for kind in JobType:
            step = replace(job, type=kind, seq=seq, phase=phase.value, id=f"job-{kind}", progress=seq * 10)
            assert sender.post(f"{step.id}-{seq}", "progress", progress_body(step)).status == 200

    rows = site.rows("workerJobs")
    assert [(row["type"], row["phase"], row["progress"]) for row in rows] == [
        (kind.value, list(Phase)[-1].value, len(Phase) * 10) for kind in JobType
    ]


@pytest.mark.parametrize("event", [event for event in Event if event.path == "progress"])
@pytest.mark.parametrize("status", [Status.PENDING, Status.ACTIVE])
def test_every_event_on_the_way(site: Site, sender: Sender, event: Event, status: Status) -> None:
    """Every event before the end is taken as news on the way, with the status that it tells."""
    job = running(status=status)

    assert sender.post(f"{job.id}-1", "progress", progress_body(job, event)).verdict is Verdict.ACCEPTED

    assert site.job()["status"] == status


@pytest.mark.parametrize("path", PATHS)
def test_test_of_an_endpoint(site: Site, sender: Sender, path: str) -> None:
    """What POST /api/webhooks/test sends is verified, answered with 200, and leaves nothing behind."""
    outcome = sender.post(f"test-{new_id()}", path, payload.trial_body("default"))

    assert (outcome.verdict, outcome.note) == (Verdict.ACCEPTED, 'HTTP 200 {"outcome":"tested"}')
    assert site.rows("workerJobs") == site.rows("workerEvents") == []


def test_order(site: Site, sender: Sender) -> None:
    """A delivery that comes twice or too late is taken and changes nothing; the end is the end."""
    job = running()
    last = replace(ended(), id=job.id, attempt=1, seq=3)

    def post(message_id: str, event: str, body: bytes) -> str:
        outcome = sender.post(message_id, event, body)
        assert outcome.verdict is Verdict.ACCEPTED, outcome.note
        return str(json.loads(outcome.note.removeprefix("HTTP 200 "))["outcome"])

    second = progress_body(replace(job, seq=2, progress=60))
    assert [
        post("m2", "progress", second),
        post("m2", "progress", second),
        post("m1", "progress", progress_body(job)),
        post("m3", "result", result_body(last, "")),
        post("m3", "result", result_body(last, "")),
        post("m4", "progress", progress_body(replace(job, seq=4))),
    ] == ["applied", "duplicate", "stale", "applied", "duplicate", "stale"]
    assert (site.job()["status"], site.job()["progress"]) == ("completed", 100)


def test_long_log(site: Site, sender: Sender) -> None:
    """The end of a log of 1 MB arrives."""
    job = ended()
    log = "".join(f"{number:07d} ☃ line\n" for number in range(50_000))

    assert sender.post(f"{job.id}-9", "result", result_body(job, log)).verdict is Verdict.ACCEPTED

    output = site.job()["output"]
    assert log.removesuffix("\n").endswith(output)
    assert len(output) > 4_000


def test_late_answer(site: Site) -> None:
    """A receiver that took the result but answered too late gets it again, and nothing happens twice."""
    job = ended()
    body = result_body(job, "")
    site.control("delay", ms=1_500)

    with contextlib.closing(Sender(endpoint(site, site.secret), deadline_s=0.5)) as sender:
        first = sender.post("m1", "result", body)
    site.control("delay", ms=0)
    with contextlib.closing(Sender(endpoint(site, site.secret))) as sender:
        second = sender.post("m1", "result", body)

    assert (first.verdict, first.status) == (Verdict.RETRY, 0)
    assert (second.verdict, second.note) == (Verdict.ACCEPTED, 'HTTP 200 {"outcome":"duplicate"}')
    assert len(site.rows("workerJobs")) == 1
    assert verdicts(site) == ["success"]


@pytest.mark.parametrize(
    ("manner", "verdict", "note"),
    [
        ("fail", Verdict.RETRY, "HTTP 500 Server Error"),
        ("redirect", Verdict.RETRY, "HTTP 307"),
        ("trickle", Verdict.RETRY, "no answer within 1.5 s"),
        ("flood", Verdict.ACCEPTED, "HTTP 200 xxx"),
    ],
)
def test_answers_of_a_broken_receiver(site: Site, manner: str, verdict: Verdict, note: str) -> None:
    """A receiver that takes a result and answers nonsense costs little time, and the next try has no second effect."""
    job = ended()
    body = result_body(job, "")
    site.control("manner", word=manner)

    with contextlib.closing(Sender(endpoint(site, site.secret), deadline_s=1.5)) as sender:
        first = sender.post("m1", "result", body)
        site.control("manner", word="")
        second = sender.post("m1", "result", body)

    assert (first.verdict, first.note[: len(note)]) == (verdict, note)
    assert first.duration_ms < 4_000
    assert (second.verdict, second.note) == (Verdict.ACCEPTED, 'HTTP 200 {"outcome":"duplicate"}')
    assert len(site.rows("workerJobs")) == 1
    assert verdicts(site) == ["success"]


def test_secrets(site: Site) -> None:
    """A sender that signs with a new and the old secret is accepted; one with a wrong secret gives up."""
    body = result_body(ended(), "")

    with contextlib.closing(Sender(endpoint(site, webhook.new_secret(), site.secret))) as rotating:
        assert rotating.post("m1", "result", body).verdict is Verdict.ACCEPTED
    with contextlib.closing(Sender(endpoint(site, webhook.new_secret()))) as stranger:
        outcome = stranger.post("m2", "result", body)

    assert (outcome.verdict, outcome.status) == (Verdict.GIVE_UP, 401)
    assert "no signature fits" in outcome.note


@pytest.mark.parametrize("text", ["{}", '{"path":"größe/日本語 ☃ 🍲.js"}', '["\u2028 \\u0000"]'])
def test_reference_library(site: Site, text: str) -> None:
    """The JavaScript reference library accepts what we sign, by each of several secrets, and nothing else."""
    other = webhook.new_secret()
    headers = webhook.sign([site.secret, other], "m1", int(time.time()), text.encode())

    def is_genuine(secret: str, changes: dict[str, str], body: str = text) -> bool:
        return bool(site.control("genuine", secret=secret, headers=headers | changes, text=body))

    assert is_genuine(site.secret, {})
    assert is_genuine(other, {})
    assert not is_genuine(webhook.new_secret(), {})
    assert not is_genuine(site.secret, {"webhook-id": "m2"})
    assert not is_genuine(site.secret, {}, text + " ")


@pytest.mark.parametrize("age_s", [-290, 290, -310, 310])
def test_age(site: Site, age_s: int) -> None:
    """A signature counts for five minutes, before and after, on this side as on that."""
    body = result_body(ended(), "")
    now_s = int(time.time())
    headers = webhook.sign([site.secret], "m1", now_s - age_s, body)

    with contextlib.ExitStack() as stack:
        if abs(age_s) > 300:
            stack.enter_context(pytest.raises(SignatureMismatch))
        webhook.verify([site.secret], headers, body, now_s)

    assert site.post(PATHS["result"], body, headers).status_code == (200 if abs(age_s) < 300 else 401)


def test_tampering(site: Site) -> None:
    """A body, id or moment that is not what was signed is refused."""
    body = result_body(ended(), "")
    headers = webhook.sign([site.secret], "m1", int(time.time()), body)

    for changed_body, changed_headers in (
        (body + b" ", headers),
        (body, headers | {"webhook-id": "m2"}),
        (body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}),
    ):
        assert site.post(PATHS["result"], changed_body, changed_headers).status_code == 401
    assert site.rows("workerJobs") == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_SURROGATES = st.text(st.characters(exclude_categories=()), max_size=200)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=_SURROGATES, log=_SURROGATES, path=_SURROGATES.filter(bool), detail=st.dictionaries(st.text(), _JSON))
def test_anything(sender: Sender, message: str, log: str, path: str, detail: dict[str, Any]) -> None:
    """Whatever a job's texts hold, the body that is made of them is accepted."""
    artifact = {"path": path, "size": 1, "sha256": "0" * 64}
    job = ended(Reason.TESTS_FAILED, message=message, artifacts=(artifact,), result={"exitCode": 1, **detail})

    outcome = sender.post(f"{job.id}-9", "result", result_body(job, log))

    assert outcome.verdict is Verdict.ACCEPTED, outcome.note


def test_record(site: Site, sender: Sender) -> None:
    """A record of the API, asked for because no result came, ends the job as its result would."""
    before = running()
    assert sender.post("m1", "progress", progress_body(before)).verdict is Verdict.ACCEPTED
    site.control("ask", record=before.to_json())
    assert site.job()["status"] == "active"

    site.control("ask", record=replace(ended(Reason.TIMEOUT, message="too slow"), id=before.id).to_json())

    row = site.job()
    assert (row["status"], row["conclusion"], row["reason"]) == ("failed", "timeout", "timeout")
    assert (row["message"], iso(row["finishedAt"]), row["phases"][0]["name"]) == ("too slow", iso(NOW_MS), "installing")
    assert verdicts(site) == ["timeout"]


def test_submission(site: Site) -> None:
    """What the app posts is what the API reads, with files whose names are beyond ASCII."""
    files = [{"path": "src/größe 🍲.ts", "text": "export const größe = '🍲';\n"}, {"path": "a", "text": ""}]

    sent = site.control("start", chat="chat-größe", files=files, answer={"jobId": new_id()})

    request, _ = intake.parse(sent["body"].encode(), intake.Bounds())
    assert (request.type, request.chat_id) == (JobType.BUILD, "chat-größe")
    assert request.files == {file["path"]: file["text"] for file in files}
    assert sent["headers"]["Idempotency-Key"] == site.job()["_id"]
    assert site.job()["status"] == "pending"


def verdicts(site: Site) -> list[str]:
    """What the app's own hook wrote, once it has run."""
    deadline = time.monotonic() + 10
    while not (found := site.rows("verdicts")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [row["text"] for row in found]
