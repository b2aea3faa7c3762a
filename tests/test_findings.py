"""Report files as part of a result, and as lines of a log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.commands import Report
from executor.findings import MAX_LINE_CHARS, MAX_LINES, Taken, gathered, is_failure, lines, verdict
from tests.test_reports import sample

JEST = Report("0-jest.json", "jest", "jest")
COVERAGE = Report("0-coverage/coverage-summary.json", "istanbul", "jest")
ESLINT = Report("1-eslint.json", "eslint", "eslint")


def test_gathered() -> None:
    """Each kind of report is one part of the result, which says whose word it is."""
    files = {JEST.path: sample("jest.json"), COVERAGE.path: sample("coverage-summary.json")}

    found = gathered([JEST, COVERAGE], files, None)

    assert (found["tests"]["total"], found["coverage"]["lines"], found["selfReported"]) == (5, 60.0, True)
    assert set(found) == {"tests", "coverage", "selfReported"}


def test_reports_that_cannot_be_used() -> None:
    """A missing or broken report is named with its reason, beside those that are right."""
    found = gathered([JEST, COVERAGE, ESLINT], {JEST.path: b"{", ESLINT.path: sample("eslint.json")}, None)

    assert found["lint"]["errors"] == 4
    reasons = {each["report"]: each["reason"] for each in found["reportInvalid"]}
    assert "JSON" in reasons[JEST.path]
    assert reasons[COVERAGE.path] == "it was not written"


def test_too_many_reports() -> None:
    """A folder that is over its cap has no reports."""
    found = gathered([JEST], {}, "bytes")

    assert found == {
        "reportInvalid": [{"tool": "jest", "report": JEST.path, "reason": "the folder of reports holds too many bytes"}]
    }


def test_only_what_was_ordered_is_taken() -> None:
    """Of the files that a job leaves among the reports, only those that were ordered are read."""
    taken = Taken(frozenset({"a"}))

    taken.keep("a", [b"1", b"2"])
    taken.keep("b", (1 / 0 for _ in range(1)))  # type: ignore[misc]

    assert taken.files == {"a": b"12"}


def report(*messages: dict[str, Any]) -> bytes:
    return json.dumps([{"filePath": "/work/project/a.js", "messages": messages}]).encode()


def test_lines() -> None:
    """A finding is one line with its place; a count ends them. Test results have lines of their own already."""
    issue = {"severity": 2, "line": 3, "column": 1, "ruleId": "no-x", "message": "No\nx" + "y" * 1_000}
    found = gathered([ESLINT], {ESLINT.path: report(issue, {"severity": 1, "message": "odd"})}, None)

    first, second, last = lines(found)

    assert first.startswith("a.js:3:1: error: No xy")
    assert len(first) == MAX_LINE_CHARS
    assert (second, last) == ("a.js: warning: odd", "1 errors, 1 warnings")
    assert list(lines({"tests": {}})) == []


def test_many_lines() -> None:
    """Of many findings the first ones are lines, and the rest is counted."""
    found = gathered([ESLINT], {ESLINT.path: report(*[{"severity": 2, "message": "m"}] * 5_000)}, None)

    said = list(lines(found))

    assert said[MAX_LINES:] == ["and 4900 more", "5000 errors, 0 warnings"]


def test_verdict() -> None:
    """A failure is told in numbers, if the reports have any."""
    files = {JEST.path: sample("jest.json"), ESLINT.path: sample("eslint.json")}

    said = verdict(gathered([JEST, ESLINT], files, None))

    assert said == "1 of 5 tests failed, 1 test files cannot be run, 4 errors and 2 warnings were found"
    assert verdict({}) == verdict({"tests": {"failed": 0}, "lint": {"errors": 0}}) == ""


FOUND = {"lint": {"errors": 0, "warnings": 2}}
ERRORS = {"lint": {"errors": 1, "warnings": 0}}


@pytest.mark.parametrize(
    ("code", "fail_on", "detail", "failed"),
    [
        (0, "error", FOUND, False),
        (0, "error", ERRORS, True),
        (1, "error", FOUND, True),
        (0, "warning", FOUND, True),
        (0, "warning", {"lint": {"errors": 0, "warnings": 0}}, False),
        (1, "never", ERRORS, False),
        (2, "never", {}, True),
        (2, "never", ERRORS | {"reportInvalid": [{}]}, True),
        (0, "warning", {}, False),
        (1, "error", {"tests": {"failed": 1}}, True),
    ],
)
def test_failure(code: int, fail_on: str, detail: dict[str, Any], failed: bool) -> None:
    """Findings of the severity asked for fail a lint; what has no usable report fails by its exit code alone."""
    assert is_failure(code, fail_on, detail) is failed
