"""Webhooks: what bodies hold, signatures against the reference library, and when a delivery is tried again."""

from __future__ import annotations

import base64
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks

import webhook
from errors import SignatureMismatch
from jobs import Job, JobType, PhaseTime, Reason, Result, Status, iso, new_id

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
NOW = 1_800_000_000


def ended_job(**changes: Any) -> Job:
    result = Result(
        conclusion=Reason.BUILD_FAILED.conclusion,
        reason=Reason.BUILD_FAILED,
        command="npm run build",
        exit_code=2,
        phases=(PhaseTime("installing", 2_000), PhaseTime("building", 500)),
        output_tail="the tail",
        detail={"tool": "vite"},
    )
    job = Job(
        id=new_id(),
        type=JobType.BUILD,
        status=Status.FAILED,
        priority=5,
        created_ms=NOW * 1_000,
        started_ms=NOW * 1_000 + 100,
        finished_ms=NOW * 1_000 + 2_700,
        chat_id="chat-1",
        attempt=2,
        seq=9,
        conclusion="failure",
        reason="build_failed",
        message="npm run build ended with code 2",
        result=result.to_json(),
        artifacts=({"path": "dist/ä.js", "size": 3, "sha256": "0" * 64},),
    )
    return replace(job, **changes)


def test_result_body() -> None:
    """A result tells the whole end of a job, and the original service's fields beside it."""
    job = ended_job()

    body = json.loads(webhook.result_body(job, "one\ntwo ☃\n"))

    assert body == {
        "jobId": job.id,
        "type": "build",
        "chatId": "chat-1",
        "attempt": 2,
        "seq": 9,
        "status": "failed",
        "conclusion": "failure",
        "reason": "build_failed",
        "message": "npm run build ended with code 2",
        "error": "npm run build ended with code 2",
        "phases": [{"name": "installing", "durationMs": 2_000}, {"name": "building", "durationMs": 500}],
        "result": {"exitCode": 2, "command": "npm run build", "skippedArtifacts": [], "tool": "vite"},
        "resultOmitted": [],
        "artifacts": [{"path": "dist/ä.js", "size": 3, "sha256": "0" * 64}],
        "artifactCount": 1,
        "durationMs": 2_600,
        "duration": 2_600,
        "timestamp": "2027-01-15T08:00:02.700Z",
        "output": "one\ntwo ☃",
        "logs": ["one", "two ☃"],
    }


def test_no_field_is_null() -> None:
    """A field without a value is absent, because optional fields of the receiving side do not take null."""
    job = ended_job(
        status=Status.COMPLETED, conclusion="success", reason="", message="", chat_id="", result={"exitCode": None}
    )

    text = webhook.result_body(job, "")

    assert b"null" not in text
    body = json.loads(text)
    assert not body.keys() & {"error", "reason", "message", "chatId"}
    assert (body["output"], body["logs"], body["result"]) == ("", [], {})


def test_same_body_for_every_try() -> None:
    """A job's result has the same bytes whenever it is made: a repeated delivery repeats itself."""
    job = ended_job()

    assert webhook.result_body(job, "log") == webhook.result_body(job, "log")


@pytest.mark.parametrize("letter", ["a", "\n", "\0", '"', "ä", "😀", "\ud800", "\u2028"])
def test_result_body_is_bounded(letter: str) -> None:
    """Whatever a job holds, its result is valid UTF-8 JSON of at most 20 KB that still tells who, how and why."""
    result = {
        "exitCode": 1,
        "phases": [{"name": letter, "durationMs": 1}] * 500,
        "cases": [letter * 40] * 900,
        "note": letter,
    }
    artifacts = tuple({"path": f"{number}{letter * 100}", "size": 1, "sha256": "0" * 64} for number in range(2_000))
    job = ended_job(message=letter * 4_000, result=result, artifacts=artifacts, chat_id="ä" * 200)

    text = webhook.result_body(job, letter * 200_000)

    assert len(text) <= 20_000
    body = json.loads(text.decode("utf-8", "strict"))
    assert (body["jobId"], body["status"], body["reason"]) == (job.id, "failed", "build_failed")
    assert body["artifactCount"] == 2_000 > len(body["artifacts"]) > 3
    assert body["resultOmitted"] == ["cases"]
    assert body["result"]["exitCode"] == 1
    assert len(body["message"]) >= 400
    assert not any("\ud800" <= each <= "\udfff" for each in text.decode())


def test_log_uses_the_room() -> None:
    """The log gets the room that nothing else needs, as whole last lines, the same in output and logs."""
    log = "".join(f"line {number}\n" for number in range(10_000))

    body = json.loads(webhook.result_body(ended_job(), log))

    assert body["logs"][-1] == "line 9999"
    assert body["output"] == "\n".join(body["logs"])
    assert body["logs"][0].startswith("line ")
    assert len(body["logs"]) > 700


def test_one_endless_line() -> None:
    """A log of one line without an end is cut at its beginning."""
    body = json.loads(webhook.result_body(ended_job(), "x" * 50_000 + "END"))

    assert body["output"].endswith("xEND")
    assert body["logs"] == [body["output"]]
    assert len(body["output"]) > 8_000


def test_numbers_that_are_not_json() -> None:
    """Not-a-number and infinity in a tool's figures become null inside the result, never broken JSON."""
    text = webhook.result_body(ended_job(result={"coverage": {"lines": float("nan"), "files": float("inf")}}), "")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["result"] == {"coverage": {"lines": None, "files": None}}


def test_progress_body() -> None:
    """Progress tells who, how far and in which order, with the moment of telling."""
    job = ended_job(status=Status.ACTIVE, progress=40, phase="building")

    before = iso(time.time_ns() // 10**6)
    body = json.loads(webhook.progress_body(job))

    assert before is not None
    assert before <= body.pop("timestamp") <= str(iso(time.time_ns() // 10**6))
    expected = {"jobId": job.id, "type": "build", "chatId": "chat-1", "attempt": 2, "seq": 9}
    assert body == {**expected, "progress": 40, "phase": "building"}


# --- signatures


def signed(body: bytes, secrets: list[str] | None = None, now_s: float | None = None) -> dict[str, str]:
    return webhook.sign(secrets or [SECRET], "msg_1", int(time.time() if now_s is None else now_s), body)


@pytest.mark.parametrize(
    "body", [b"{}", '{"path":"dist/日本語 ☃.js"}'.encode(), webhook.result_body(ended_job(), "\ud800\n")]
)
def test_reference_accepts_ours(body: bytes) -> None:
    """The Standard Webhooks reference library accepts our signatures, non-ASCII bodies included."""
    assert standardwebhooks.Webhook(SECRET).verify(body, signed(body)) == json.loads(body)


def test_we_accept_the_reference() -> None:
    """We accept what the Standard Webhooks reference library signs."""
    body, moment = '{"ä":"☃"}', datetime.fromtimestamp(NOW, UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_2", moment, body)

    headers = {"Webhook-Id": "msg_2", "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}

    webhook.verify([SECRET], headers, body.encode(), NOW)


def test_rotation() -> None:
    """While secrets change over, old and new receivers both accept, and a receiver may know several secrets."""
    headers = signed(b"{}", [SECRET, OTHER_SECRET])

    for secret in (SECRET, OTHER_SECRET):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
        webhook.verify([secret], headers, b"{}", time.time())
    webhook.verify([OTHER_SECRET, SECRET], signed(b"{}"), b"{}", time.time())


def test_new_secret() -> None:
    """A new secret signs, and no two are alike."""
    secret = webhook.new_secret()

    webhook.verify([secret], signed(b"{}", [secret]), b"{}", time.time())
    assert secret != webhook.new_secret()


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": f" {NOW}"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "\u0661" * 10},
        {"webhook-timestamp": "9" * 5_000},
        {"webhook-id": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\udcff☃"},
        {"webhook-signature": "v1"},
        {"webhook-id": "\ud800"},
    ],
)
def test_tampered_headers(change: dict[str, str]) -> None:
    """A changed, malformed or missing header is refused, whatever it holds."""
    with pytest.raises(SignatureMismatch):
        webhook.verify([SECRET], {**signed(b"{}", now_s=NOW), **change}, b"{}", NOW)


def test_tampered_body_and_version() -> None:
    """A changed body is refused, and so is another version's signature, another secret, or none to compare with."""
    headers = signed(b"{}", now_s=NOW)
    other_version = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}

    for secrets, given, body in (
        ([SECRET], headers, b"{ }"),
        ([SECRET], other_version, b"{}"),
        ([OTHER_SECRET], headers, b"{}"),
        ([], headers, b"{}"),
        ([SECRET], {}, b"{}"),
    ):
        with pytest.raises(SignatureMismatch):
            webhook.verify(secrets, given, body, NOW)


@pytest.mark.parametrize("shift_s", [-301, 301])
def test_stale(shift_s: int) -> None:
    """A signature more than five minutes old, or ahead, is refused; within them it is accepted."""
    headers = signed(b"{}", now_s=NOW)

    webhook.verify([SECRET], headers, b"{}", NOW + shift_s * 0.99)
    with pytest.raises(SignatureMismatch, match="too far"):
        webhook.verify([SECRET], headers, b"{}", NOW + shift_s)


# --- when to try again


def test_retry_delays() -> None:
    """Waits grow over three days, each spread by a fifth either way; after the ninth there is none."""
    assert [webhook.retry_delay_ms(attempt, lambda: 0.5) for attempt in range(1, 11)] == [
        5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000, None
    ]  # fmt: skip
    assert (webhook.retry_delay_ms(1, lambda: 0.0), webhook.retry_delay_ms(1, lambda: 1.0)) == (4_000, 6_000)
    chance = random.Random(1).random
    assert len({webhook.retry_delay_ms(9, chance) for _ in range(100)}) > 90
