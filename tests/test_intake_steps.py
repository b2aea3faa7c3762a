"""Pipelines and the settings of lints in a submission."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import InvalidRequest
from intake import Bounds, parse
from jobs import JobType, Request


def parsed(**data: Any) -> Request:
    body = {"type": "build", "data": {"projectFiles": {"a.txt": ""}, **data}}
    return parse(json.dumps(body).encode(), Bounds())[0]


def mistakes(**data: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**data)
    return [(mistake.pointer, mistake.detail) for mistake in refused.value.mistakes]


def test_defaults() -> None:
    """A job does what its type says, stops at a failure, fails a lint for errors, and looks for its language."""
    found = parsed()

    assert (found.steps, found.on_failure, found.fail_on, found.language) == ((), "stop", "error", "")


def test_pipeline() -> None:
    """Steps keep the order of the request."""
    found = parsed(steps=["lint", "build", "test"], onFailure="continue", failOn="warning", language="python")

    assert found.steps == (JobType.LINT, JobType.BUILD, JobType.TEST)
    assert (found.on_failure, found.fail_on, found.language) == ("continue", "warning", "python")


def test_all_mistakes_of_steps() -> None:
    """Each wrong step is named at its place."""
    assert mistakes(steps=["build", "deploy", "build", 7, ["test"]][:4]) == [
        ("#/data/steps/1", "A step must be one of build, test, lint, analyze."),
        ("#/data/steps/2", "The step build is there already."),
        ("#/data/steps/3", "A step must be one of build, test, lint, analyze."),
    ]


@pytest.mark.parametrize("step", [None, {}, ["test"], 1.5, "BUILD", ""])
def test_no_step(step: Any) -> None:
    """A step of any other kind is a mistake like any other."""
    assert [pointer for pointer, _ in mistakes(steps=[step])] == ["#/data/steps/0"]


def test_too_many_steps() -> None:
    """More steps than there are kinds of them are counted, not read."""
    ((pointer, detail),) = mistakes(steps=["test"] * 500)

    assert (pointer, "has 500 entries; at most 4" in detail) == ("#/data/steps", True)


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("steps", [], "steps is empty: it must be a list of build, test, lint, analyze, each at most once."),
        ("steps", "test", "steps must be a list of build, test, lint, analyze, each at most once."),
        ("onFailure", "retry", "onFailure must be stop or continue."),
        ("failOn", "info", "failOn must be error, warning or never."),
        ("language", "ruby", "language must be node or python."),
    ],
)
def test_mistakes_of_fields(field: str, value: Any, detail: str) -> None:
    """The rule of the field is quoted."""
    assert mistakes(**{field: value}) == [(f"#/data/{field}", detail)]


def test_command_of_no_step() -> None:
    """A command that no step would run is a mistake, not ignored."""
    assert [pointer for pointer, _ in mistakes(steps=["lint", "test"], command="make")] == ["#/data/command"]
    assert parsed(steps=["lint", "build"], command="make").command == "make"
