"""Several types in one job, on real projects: one tree, one install, a result for each step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs import Conclusion, JobType, Phase, Reason, Result
from tests.engine.test_reports import example
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

LIMITS: dict[str, float] = {"memory_bytes": 1 << 30, "total_s": 290.0, "install_s": 200.0, "command_s": 90.0}
LINT, BUILD, TEST = JobType.LINT, JobType.BUILD, JobType.TEST
BUILT = "mkdir -p dist && echo built >dist/page.txt"


def plain(**scripts: str) -> dict[str, str]:
    """A project without dependencies."""
    return {"package.json": json.dumps({"type": "module", "scripts": scripts})}


def steps(result: Result) -> list[tuple[Any, ...]]:
    return [(step["type"], step["conclusion"], step["reason"]) for step in result.detail["steps"]]


def test_whole_project(bench: Bench) -> None:
    """A Vite project is checked, built and tested after one install, and the result has all that each would have."""
    watch = Recorder()

    result = bench.run(example("vitest-app"), watch=watch, limits=LIMITS, steps=(LINT, BUILD, TEST))

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert steps(result) == [("lint", "success", None), ("build", "success", None), ("test", "success", None)]
    lint, build, test = result.detail["steps"]
    assert (lint["lint"]["errors"], lint["exitCode"], test["tests"]["passed"]) == (0, 0, 5)
    assert test["coverage"]["lines"] > 50
    assert (build["outputDir"], build["framework"]) == ("dist", "vite")
    assert "index.html" in [artifact.path for artifact in result.artifacts]
    assert sum(artifact.size for artifact in result.artifacts) == build["outputBytes"]
    assert all(step["durationMs"] > 0 for step in result.detail["steps"])
    assert [phase for _, phase in watch.steps] == [
        Phase.PREPARING, Phase.INSTALLING, Phase.LINTING, Phase.COLLECTING, Phase.BUILDING, Phase.COLLECTING,
        Phase.TESTING, Phase.COLLECTING,
    ]  # fmt: skip
    percents = [percent for percent, _ in watch.steps]
    assert percents == sorted(percents)
    assert percents[-1] == 90
    assert watch.text("system").count("$ npm ci") == 1


def test_stops_at_a_failure(bench: Bench) -> None:
    """What comes after a failure does not run; what was built before it is kept as it was then."""
    files = plain(build=BUILT, test="echo changed >dist/page.txt && exit 3")
    watch = Recorder()

    result = bench.run(files, watch=watch, steps=(BUILD, TEST, LINT))

    assert (result.conclusion, result.reason, result.exit_code) == (Conclusion.FAILURE, Reason.TESTS_FAILED, 3)
    assert result.message.startswith("test: `npm run test` failed with exit code 3")
    assert steps(result) == [("build", "success", None), ("test", "failure", "tests_failed"), ("lint", "skipped", None)]
    assert watch.files == {"page.txt": b"built\n"}
    assert [artifact.path for artifact in result.artifacts] == ["page.txt"]


def test_goes_on(bench: Bench) -> None:
    """If asked to, all steps run, whatever the ones before come to; the first failure is the job's."""
    files = plain(lint="exit 1", build="sleep 60", test="node --test")
    files["a.test.js"] = "import test from 'node:test'; test('a', () => {})"

    result = bench.run(files, limits={"command_s": 15.0}, steps=(LINT, BUILD, TEST), on_failure="continue")

    assert (result.reason, result.message.split(" failed")[0]) == (Reason.LINT_FAILED, "lint: `npm run lint`")
    assert steps(result) == [
        ("lint", "failure", "lint_failed"), ("build", "timeout", "timeout"), ("test", "success", None),
    ]  # fmt: skip
    assert result.detail["steps"][2]["tests"]["passed"] == 1
    assert "the limit of one command is 15 s" in result.detail["steps"][1]["message"]


def test_missing_step(bench: Bench) -> None:
    """A step that the project has nothing for fails when its turn comes."""
    result = bench.run(plain(build=BUILT), steps=(BUILD, TEST))

    assert result.reason is Reason.COMMAND_NOT_FOUND
    assert steps(result)[1] == ("test", "failure", "command_not_found")
    assert result.message.startswith("test: no tests: ")
    assert [artifact.path for artifact in result.artifacts] == ["page.txt"]


def test_whole_job_is_over(bench: Bench) -> None:
    """When the time of the job is over no further step begins, even if it was to go on."""
    files = plain(lint="sleep 60", build=BUILT)

    result = bench.run(files, limits={"total_s": 8.0}, steps=(LINT, BUILD), on_failure="continue")

    assert result.reason is Reason.TIMEOUT
    assert steps(result) == [("lint", "timeout", "timeout"), ("build", "skipped", None)]


def test_failed_install(bench: Bench) -> None:
    """Without what it needs no step runs."""
    files = {"package.json": json.dumps({"dependencies": {"@chef-workers/no-such-package": "1.0.0"}})}

    result = bench.run(files, steps=(LINT, TEST), limits=LIMITS)

    assert result.reason is Reason.INSTALL_FAILED
    assert steps(result) == [("lint", "skipped", None), ("test", "skipped", None)]


def test_python_pipeline(bench: Bench) -> None:
    """A Python project: ruff, a wheel and pytest after one install."""
    result = bench.run(example("pytest-app"), limits=LIMITS, steps=(LINT, BUILD, TEST))

    assert result.conclusion is Conclusion.SUCCESS, result.message
    lint, build, test = result.detail["steps"]
    assert (lint["lint"]["issues"], build["outputDir"], test["tests"]["passed"]) == ([], "dist", 5)
    assert "kitchen-1.2.0-py3-none-any.whl" in [artifact.path for artifact in result.artifacts]


@pytest.mark.parametrize(
    ("fail_on", "text", "reason"),
    [
        ("warning", "export const same = (a, b) => a == b\n", Reason.LINT_FAILED),
        ("never", "export const lost = () => nowhere\n", None),
        ("error", "export const same = (a, b) => a == b\n", None),
    ],
)
def test_fail_on(bench: Bench, fail_on: str, text: str, reason: Reason | None) -> None:
    """The least severe finding that fails a lint is the caller's choice; the result has the findings all the same."""
    files = example("eslint-app") | {"src/greet.js": text}

    result = bench.run(files, kind=LINT, limits=LIMITS, fail_on=fail_on)

    assert result.reason is reason, result.message
    assert len(result.detail["lint"]["issues"]) == 1
    if reason:
        assert (result.exit_code, result.message.split(":")[0]) == (
            0,
            "0 errors and 1 warnings were found (exit code 0)",
        )
