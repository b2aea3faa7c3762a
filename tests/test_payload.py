"""What the bodies of webhooks hold, and that they are bounded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import payload
from events import Delivery, Event, News
from jobs import Job, JobType, PhaseTime, Reason, Result, Status, new_id
from payload import Form

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


def delivery(job: Job, event: Event = Event.FAILED, news: News | None = None) -> Delivery:
    """The delivery of an event of `job` with its current seq."""
    at = news or News("", 0, 0, "", 0)
    return Delivery(f"{job.id}-{job.seq}.default", job.id, event, "default", 1, 1, NOW * 1_000, job.seq, at)


def result_body(job: Job, log_tail: str, form: Form | None = None) -> bytes:
    return payload.result_body(job, delivery(job), log_tail, form or Form())


def test_result_body() -> None:
    """A result tells the whole end of a job, and the original service's fields beside it."""
    job = ended_job()

    body = json.loads(result_body(job, "one\ntwo ☃\n"))

    here = f"/api/jobs/{job.id}"
    assert body == {
        "event": "job.failed",
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
        "artifacts": [{"path": "dist/ä.js", "size": 3, "sha256": "0" * 64, "href": f"{here}/artifacts/dist/%C3%A4.js"}],
        "artifactCount": 1,
        "links": {
            "job": here,
            "logs": f"{here}/logs",
            "artifacts": f"{here}/artifacts",
            "archive": f"{here}/artifacts.tar.gz",
        },
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

    text = result_body(job, "")

    assert b"null" not in text
    body = json.loads(text)
    assert not body.keys() & {"error", "reason", "message", "chatId"}
    assert (body["output"], body["logs"], body["result"]) == ("", [], {})


def test_same_body_for_every_try() -> None:
    """A job's result has the same bytes whenever it is made: a repeated delivery repeats itself."""
    job = ended_job()

    assert result_body(job, "log") == result_body(job, "log")


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

    text = result_body(job, letter * 200_000)

    assert len(text) <= 20_000
    body = json.loads(text.decode("utf-8", "strict"))
    assert (body["jobId"], body["status"], body["reason"]) == (job.id, "failed", "build_failed")
    assert body["artifactCount"] == 2_000 > len(body["artifacts"]) >= 2
    assert body["resultOmitted"] == ["cases"]
    assert body["result"]["exitCode"] == 1
    assert len(body["message"]) >= 400
    assert not any("\ud800" <= each <= "\udfff" for each in text.decode())


def report_of_tests(failed: int, passed: int, message: str = "expected 1, got 2") -> dict[str, Any]:
    """A report as executor.reports makes it: failed cases stand where they ran, here at the end."""
    cases = [
        {"name": f"ö {at}", "file": "src/a.test.ts", "status": "passed", "durationMs": 1} for at in range(passed)
    ] + [
        {"name": f"ü {at}", "file": "src/b.test.ts", "status": "failed", "durationMs": 1, "message": message}
        for at in range(failed)
    ]
    return {"total": len(cases), "passed": passed, "failed": failed, "skipped": 0, "durationMs": 7, "cases": cases}


def told_result(result: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    text = result_body(ended_job(result={"exitCode": 1, **result}), "line\n" * 10_000)
    assert len(text) <= payload.MAX_BODY_BYTES
    body = json.loads(text)
    assert len(payload._encode(body["result"])) <= payload.RESULT_BYTES
    return body["result"], body["resultOmitted"]


def test_small_reports_are_told_whole() -> None:
    """A report that fits is told as it is, in its order."""
    report = report_of_tests(failed=2, passed=3)

    assert told_result({"tests": report}) == ({"exitCode": 1, "tests": report}, [])


@pytest.mark.parametrize("message", ["expected 1, got 2", "ä" * 2_000])
def test_large_reports_keep_totals_and_what_failed(message: str) -> None:
    """Of 903 test cases the totals and the failed ones are told, passed ones as far as there is room."""
    report = report_of_tests(failed=3, passed=900, message=message)

    result, omitted = told_result({"tests": report})

    told = result["tests"]
    assert omitted == []
    assert [told[name] for name in ("total", "passed", "failed", "skipped", "durationMs")] == [903, 900, 3, 0, 7]
    assert [each["name"] for each in told["cases"][:4]] == ["ü 0", "ü 1", "ü 2", "ö 0"]
    assert all(each["message"].startswith(message[:15]) for each in told["cases"][:3])
    assert told["casesCut"] == 903 - len(told["cases"])


def test_what_was_cut_before_counts() -> None:
    """Cases that the run had left out already are counted with those that the body leaves out."""
    report = {**report_of_tests(failed=0, passed=1_000), "total": 5_000, "casesCut": 4_000}

    told = told_result({"tests": report})[0]["tests"]

    assert told["casesCut"] == 5_000 - len(told["cases"])


def test_every_report_gets_its_share() -> None:
    """Tests, coverage and lint that are all too large each tell their totals and their worst entries."""
    issues = [{"file": "a.ts", "line": at, "severity": "warning", "message": "m"} for at in range(500)]
    lint = {"errors": 1, "warnings": 500, "issues": [*issues, {"file": "z.ts", "severity": "error", "message": "m"}]}
    coverage = {"lines": 50.5, "files": [{"file": f"{at}.ts", "lines": 100 - at / 10} for at in range(900)]}

    result, omitted = told_result({"tests": report_of_tests(2, 700), "coverage": coverage, "lint": lint})

    assert omitted == []
    assert [each["status"] for each in result["tests"]["cases"][:3]] == ["failed", "failed", "passed"]
    assert (result["coverage"]["lines"], result["coverage"]["files"][0]["file"]) == (50.5, "899.ts")
    assert (result["lint"]["errors"], result["lint"]["warnings"]) == (1, 500)
    assert [each["severity"] for each in result["lint"]["issues"][:2]] == ["error", "warning"]
    assert result["lint"]["issuesCut"] == 501 - len(result["lint"]["issues"])
    assert all(len(each) >= 4 for each in (result["tests"]["cases"], result["coverage"]["files"]))


def test_steps_keep_their_totals() -> None:
    """The reports of a job's steps are cut like those of a job that does one thing, and the log is not repeated."""
    lint = {"errors": 700, "warnings": 0, "issues": [{"severity": "error", "message": "m" * 50}] * 700}
    steps = [
        {"type": "lint", "conclusion": "failure", "outputTail": "x" * 8_000, "lint": lint},
        {"type": "test", "conclusion": "failure", "outputTail": "x" * 8_000, "tests": report_of_tests(1, 900)},
        {"type": "build", "conclusion": "skipped", "reason": None},
    ]

    result, omitted = told_result({"steps": steps})

    linted, tested, skipped = result["steps"]
    assert omitted == []
    assert (linted["lint"]["errors"], linted["lint"]["issuesCut"] + len(linted["lint"]["issues"])) == (700, 700)
    assert (tested["tests"]["total"], tested["tests"]["cases"][0]["status"]) == (901, "failed")
    assert skipped["type"] == "build"
    assert "outputTail" not in linted


def test_lists_of_anything_else() -> None:
    """A part that has a list's name but not its form is left out whole, as ever."""
    assert told_result({"odd": {"cases": ["x" * 50] * 200, "files": 3}}) == ({"exitCode": 1}, ["odd"])


def test_log_uses_the_room() -> None:
    """The log gets the room that nothing else needs, as whole last lines, the same in output and logs."""
    log = "".join(f"line {number}\n" for number in range(10_000))

    body = json.loads(result_body(ended_job(), log))

    assert body["logs"][-1] == "line 9999"
    assert body["output"] == "\n".join(body["logs"])
    assert body["logs"][0].startswith("line ")
    assert len(body["logs"]) > 700


def test_one_endless_line() -> None:
    """A log of one line without an end is cut at its beginning."""
    body = json.loads(result_body(ended_job(), "x" * 50_000 + "END"))

    assert body["output"].endswith("xEND")
    assert body["logs"] == [body["output"]]
    assert len(body["output"]) > 8_000


def test_numbers_that_are_not_json() -> None:
    """Not-a-number and infinity in a tool's figures become null inside the result, never broken JSON."""
    text = result_body(ended_job(result={"coverage": {"lines": float("nan"), "files": float("inf")}}), "")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse)["result"] == {"coverage": {"lines": None, "files": None}}


def test_full_profile_repeats_nothing() -> None:
    """The full profile leaves out exactly the original service's repetitions; the log is there once."""
    job = ended_job()

    usual = json.loads(result_body(job, "one\ntwo\n"))
    full = json.loads(result_body(job, "one\ntwo\n", Form(profile="full")))

    assert usual.keys() - full.keys() == {"error", "logs", "duration"}
    assert full == {name: value for name, value in usual.items() if name in full}
    assert len(json.loads(result_body(job, "x\n" * 40_000, Form(profile="full")))["output"]) > 10_000


def test_links_are_absolute_if_the_address_is_known() -> None:
    """Where the settings know the API's address, a receiver can follow every link as it is."""
    body = json.loads(result_body(ended_job(), "", Form(base_url="https://workers.example/x")))

    links = [*body["links"].values(), *(artifact["href"] for artifact in body["artifacts"])]
    assert all(link.startswith("https://workers.example/x/api/jobs/job-") for link in links)


@pytest.mark.parametrize("event", [event for event in Event if event.path == "progress"])
def test_news_tell_of_their_moment(event: Event) -> None:
    """An event before the end tells how the job was then, whatever became of it since."""
    news = News("pending", 1, 40, "building", NOW * 1_000, "runtime_unavailable", "the engine was away" * 1_000)
    job = ended_job(artifacts=())

    body = json.loads(payload.news_body(job, delivery(job, event, news), Form()))

    assert len(body.pop("message")) == payload.MESSAGE_BYTES - 2  # with its quotes
    assert body == {
        "event": event,
        "jobId": job.id,
        "type": "build",
        "chatId": "chat-1",
        "attempt": 1,
        "seq": 9,
        "status": "pending",
        "progress": 40,
        "phase": "building",
        "reason": "runtime_unavailable",
        "links": {"job": f"/api/jobs/{job.id}", "logs": f"/api/jobs/{job.id}/logs"},
        "timestamp": "2027-01-15T08:00:00.000Z",
    }


def test_trial_body() -> None:
    """A test names its endpoint and no job."""
    body = json.loads(payload.trial_body("default"))

    assert (body["event"], body["endpoint"], "jobId" in body) == ("webhook.test", "default", False)
