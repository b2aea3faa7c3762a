"""Several types in one job: what is done, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor import pipeline
from executor.recipes import plan
from jobs import STEPS, Artifact, Conclusion, JobType, PhaseTime, Reason, Request, Result

SCRIPTS = {"build": "b", "test": "node --test", "lint": "eslint ."}
FILES = {"package.json": json.dumps({"scripts": SCRIPTS})}
BUILT = Artifact("index.html", 1, "00")


def request(*steps: JobType, **fields: Any) -> Request:
    return Request(JobType.BUILD, FILES, steps=steps, **fields)


def success(**fields: Any) -> Result:
    return Result(
        Conclusion.SUCCESS, exit_code=0, phases=(PhaseTime("building", 5), PhaseTime("collecting", 2)), **fields
    )


def failure(reason: Reason = Reason.TESTS_FAILED) -> Result:
    return Result(reason.conclusion, reason, "1 test failed:\n\nlog", "t", 1, detail={"tests": {"failed": 1}})


def test_works_in_order() -> None:
    """Each step is a work of its own, in the order asked for, with reports that no other writes."""
    made = plan(request(JobType.LINT, JobType.BUILD, JobType.TEST))

    assert [work.type for work in made.works] == ["lint", "build", "test"]
    assert [work.failed for work in made.works] == ["lint_failed", "build_failed", "tests_failed"]
    assert [report.path for work in made.works for report in work.reports] == [
        "0-eslint.json", "200-node.xml", "200-node.lcov",
    ]  # fmt: skip
    assert (made.is_pipeline, made.outputs) == (True, ("dist", "build", "out", ".output"))


def test_commands_of_steps() -> None:
    """The request's command is the build's, its testCommand the test's; a lint takes neither."""
    made = plan(request(JobType.LINT, JobType.BUILD, JobType.TEST, command="make", test_command="ava"))

    assert [work.command for work in made.works][1:] == ["make", "ava"]
    assert made.works[0].command.startswith("eslint .")


def test_step_without_a_command() -> None:
    """A step for which the project has nothing is told when its turn comes: the others may be worth running."""
    made = plan(Request(JobType.TEST, {"package.json": "{}"}, steps=(JobType.TEST, JobType.BUILD), command="make"))

    assert [(work.command, bool(work.missing)) for work in made.works] == [("", True), ("make", False)]
    assert "no tests" in made.works[0].missing


def test_only_one_type() -> None:
    """A job without steps has the result of its one work, as it is."""
    made = plan(Request(JobType.BUILD, FILES))

    assert pipeline.joined(made, [failure()]) == failure()
    assert pipeline.unstarted(made) == {}


def test_all_went_well() -> None:
    """A pipeline is a success if each step is; it has the files of its build."""
    made = plan(request(JobType.BUILD, JobType.TEST))

    result = pipeline.joined(made, [success(artifacts=(BUILT,), detail={"outputDir": "dist"}), success(command="t")])

    assert (result.conclusion, result.reason, result.message, result.artifacts) == ("success", None, "", (BUILT,))
    assert [step["type"] for step in result.detail["steps"]] == ["build", "test"]
    assert result.detail["steps"][0] == {
        "type": "build", "conclusion": "success", "reason": None, "message": "", "durationMs": 7, "command": "",
        "exitCode": 0, "outputTail": "", "outputDir": "dist",
    }  # fmt: skip


def test_first_failure_counts() -> None:
    """The first step that failed says how the job ends; files of a build that went well are there all the same."""
    made = plan(request(JobType.BUILD, JobType.TEST, JobType.LINT, on_failure="continue"))

    result = pipeline.joined(made, [success(artifacts=(BUILT,)), failure(), failure(Reason.LINT_FAILED)])

    assert (result.conclusion, result.reason, result.command) == ("failure", Reason.TESTS_FAILED, "t")
    assert (result.message, result.artifacts) == ("test: 1 test failed:\n\nlog", (BUILT,))
    assert [step["reason"] for step in result.detail["steps"]] == [None, "tests_failed", "lint_failed"]
    assert (result.detail["steps"][1]["message"], result.detail["steps"][1]["tests"]) == (
        "1 test failed",
        {"failed": 1},
    )


def test_steps_that_did_not_run() -> None:
    """What comes after the end is there as skipped; so is everything if the install failed."""
    made = plan(request(JobType.TEST, JobType.BUILD))

    skipped = {"type": "build", "conclusion": "skipped", "reason": None}
    assert pipeline.joined(made, [failure()]).detail["steps"][1] == skipped
    assert [step["conclusion"] for step in pipeline.unstarted(made)["steps"]] == ["skipped", "skipped"]


@pytest.mark.parametrize(
    ("on_failure", "result", "is_over"),
    [
        ("stop", success(), False),
        ("stop", failure(), True),
        ("continue", failure(), False),
        ("continue", failure(Reason.TIMEOUT), False),
        ("continue", failure(Reason.DISK_FULL), True),
        ("continue", failure(Reason.OUTPUT_LIMIT), True),
    ],
)
def test_when_it_is_over(on_failure: str, result: Result, is_over: bool) -> None:
    """The first failure ends it, or, if asked to go on, what no later step could do better with."""
    assert pipeline.is_over(plan(request(JobType.TEST, on_failure=on_failure)), result) is is_over


def test_request_as_stored() -> None:
    """Steps come back from the store as they went in; a request that was stored before there were any has none."""
    wanted = request(JobType.LINT, JobType.BUILD, on_failure="continue", fail_on="never", language="python")

    assert Request.from_bytes(wanted.to_bytes()) == wanted
    assert Request.from_bytes(b'{"type": "build", "files": {}}') == Request(JobType.BUILD, {})
    assert set(STEPS) <= set(JobType)
