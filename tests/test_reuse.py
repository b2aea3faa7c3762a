"""What makes two jobs the same work, and what a job gets that was done before."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import reuse
from calls import Call
from jobs import Conclusion, Job, JobType, Request, Status, new_id

IMAGES = ("node:1", "python:1")
REQUEST = Request(JobType.BUILD, files={"a.txt": "x"}, env={"A": "1"}, chat_id="one")


def job(**more: Any) -> Job:
    """A job of nobody in particular."""
    return Job(new_id(), JobType.BUILD, Status.ACTIVE, priority=5, created_ms=0, **more)


@pytest.mark.parametrize("same", [{"chat_id": "two"}, {"priority": 9}, {"limits": {"cpus": 2.0}}])
def test_how_it_is_treated_is_not_the_work(same: dict[str, Any]) -> None:
    """Chat, priority and limits do not change what comes out."""
    other = dataclasses.replace(REQUEST, **same)

    assert reuse.fingerprint(job(), other, IMAGES) == reuse.fingerprint(job(), REQUEST, IMAGES)


def test_what_it_is_made_of() -> None:
    """Every other field, the images and the tenant make another work; no field is forgotten."""
    changed: dict[str, Any] = {
        "type": JobType.LINT, "files": {"a.txt": "y"}, "env": {"A": "2"}, "command": "x", "test_command": "x",
        "dependencies": {"dependencies": {"a": "1"}}, "install_scripts": True, "steps": (JobType.BUILD,),
        "on_failure": "continue", "fail_on": "warning", "language": "python", "artifacts": ("*.txt",),
        "binary": {"b": "eA=="},
    }  # fmt: skip
    known = {item.name for item in dataclasses.fields(Request)}
    keys = {
        reuse.fingerprint(job(), dataclasses.replace(REQUEST, **{name: value}), IMAGES)
        for name, value in changed.items()
    }
    others = {
        reuse.fingerprint(job(), REQUEST, IMAGES),
        reuse.fingerprint(job(), REQUEST, ("node:2", "python:1")),
        reuse.fingerprint(job(tenant="acme"), REQUEST, IMAGES),
    }

    assert known - changed.keys() <= reuse.PASSED_OVER | {"call"}
    assert len(keys | others) == len(changed) + 3


def test_never_the_same() -> None:
    """A function is called for its answer now, and a job may refuse."""
    call = Call("node", "index.mjs", "handler")

    assert reuse.fingerprint(job(), dataclasses.replace(REQUEST, type=JobType.FUNCTION, call=call), IMAGES) is None
    assert reuse.fingerprint(job(), dataclasses.replace(REQUEST, use_cache=False), IMAGES) is None


def test_the_result_in_its_place() -> None:
    """It says what the earlier one found out and made, where it comes from and what it saves; not what that cost."""
    earlier = job(
        started_ms=1_000,
        finished_ms=4_000,
        result={
            "exitCode": 0, "command": "npm run build", "phases": [{"name": "building", "durationMs": 5}],
            "skippedArtifacts": [], "outputTail": "built", "outputDir": "dist", "usage": {"cpuSeconds": 1},
        },
    )  # fmt: skip
    result = reuse.reused(earlier, ())
    body = result.to_json()

    assert (result.conclusion, result.command, result.exit_code, result.output_tail) == (
        Conclusion.SUCCESS, "npm run build", 0, "built",
    )  # fmt: skip
    assert (body["cached"], body["cachedFrom"], body["savedMs"], body["outputDir"]) == (True, earlier.id, 3_000, "dist")
    assert body["phases"] == []
    assert "usage" not in body
