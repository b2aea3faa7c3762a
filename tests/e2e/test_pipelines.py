"""Several types in one job, and Python projects, over HTTP."""

from __future__ import annotations

import json

import pytest
import requests

from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SCRIPTS = {"build": "mkdir -p dist && echo built >dist/page.txt", "test": "node --test"}
RED = "import test from 'node:test'; test('adds', () => { if (1 + 1 !== 3) throw Error('1 + 1 is not 3') })"
PROJECT = {"package.json": json.dumps({"type": "module", "scripts": SCRIPTS}), "sum.test.js": RED}


def test_pipeline(client: Client) -> None:
    """A red test after a green build: the record and the webhook have both, and the files can be fetched."""
    job_id = client.submit(PROJECT, steps=["build", "test", "lint"])
    record = client.ended(job_id)

    assert (record["status"], record["conclusion"], record["reason"]) == ("failed", "failure", "tests_failed"), record
    assert record["message"].startswith("test: 1 of 1 tests failed (exit code 1)")
    steps = record["result"]["steps"]
    assert [(step["type"], step["conclusion"]) for step in steps] == [
        ("build", "success"), ("test", "failure"), ("lint", "skipped"),
    ]  # fmt: skip
    assert "1 + 1 is not 3" in steps[1]["tests"]["cases"][0]["message"]
    assert client.get(f"{job_id}/artifacts/page.txt").text == "built\n"
    (event,) = client.webhooks(job_id)
    assert [step["conclusion"] for step in event["body"]["result"]["steps"]] == ["success", "failure", "skipped"]


def test_python_project(client: Client) -> None:
    """A Python project is found out, checked and tested, step after step."""
    files = {"calc.py": "def half(n):\n    return n // 2\n"}
    files["test_calc.py"] = "import calc\n\n\ndef test_half():\n    assert calc.half(4) == 2\n"

    record = client.run(files, steps=["lint", "test"], onFailure="continue")

    assert record["conclusion"] == "success", record
    lint, tested = record["result"]["steps"]
    assert lint["lint"] == {"errors": 0, "warnings": 0, "issues": []}
    assert [case["name"] for case in tested["tests"]["cases"]] == ["test_half"]
    assert tested["coverage"]["lines"] == 100.0


def test_mistakes(client: Client) -> None:
    """Wrong steps are answered before anything is stored, each at its place."""
    body = {"type": "build", "data": {"projectFiles": {"a.js": ""}, "steps": ["build", "deploy"], "failOn": "info"}}

    answer = requests.post(f"{client.service.url}/api/jobs", json=body, timeout=10)

    assert answer.status_code == 400
    assert [mistake["pointer"] for mistake in answer.json()["errors"]] == ["#/data/failOn", "#/data/steps/1"]
