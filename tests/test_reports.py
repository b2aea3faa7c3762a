"""Reports of real tools, read field by field; and what no tool would write, refused or bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from executor import reports
from executor.reports import MAX_BYTES, ReportInvalid, read
from executor.reports.values import MAX_LIST_CHARS, MAX_MESSAGE, MAX_NUMBER, MAX_VALUES

SAMPLES = Path(__file__).parent / "data" / "reports"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


TESTS = [
    ("vitest", "vitest.json", (5, 2, 1, 2), "sum is wrong", "v/sum.test.js", 5, "expected 2 to be 3"),
    ("jest", "jest.json", (5, 2, 1, 2), "sum is wrong", "j/sum.test.cjs", 4, "Expected: 3"),
    ("mocha", "mocha.json", (4, 1, 2, 1), "sum is wrong", "m/sum.spec.cjs", None, "2 == 3"),
    ("junit", "node.xml", (6, 2, 2, 2), "sum is wrong", "n/sum.test.mjs", None, "2 == 3"),
    ("junit", "bun.xml", (4, 2, 1, 1), "sum is wrong", "b/sum.test.ts", 5, "Expected: 3"),
    ("junit", "pytest.xml", (8, 2, 4, 2), "Sums test_unit_wrong", "test_sums.py", 29, "4 != 5"),
]


@pytest.mark.parametrize(("tool", "file", "counts", "name", "path", "line", "message"), TESTS)
def test_test_reports(
    tool: str, file: str, counts: tuple[int, ...], name: str, path: str, line: int | None, message: str
) -> None:
    """Counts are the tool's own; a failed case has its whole name, its place in the project, and why it failed."""
    found = read(tool, sample(file))

    assert (found["total"], found["passed"], found["failed"], found["skipped"]) == counts
    assert len(found["cases"]) == found["total"]
    case = next(case for case in found["cases"] if case["name"] == name)
    assert (case["file"], case.get("line"), case["status"]) == (path, line, "failed")
    assert message in case["message"]
    assert "/work" not in json.dumps(found)


def test_counts_are_the_tools_own() -> None:
    """What Jest counts itself is what is counted from its cases."""
    own, found = json.loads(sample("jest.json")), read("jest", sample("jest.json"))

    assert found["total"] == own["numTotalTests"]
    assert (found["passed"], found["failed"]) == (own["numPassedTests"], own["numFailedTests"])
    assert found["skipped"] == own["numPendingTests"] + own["numTodoTests"]
    assert 0 < found["durationMs"] < 10_000


@pytest.mark.parametrize(
    ("tool", "file", "path"),
    [("vitest", "vitest.json", "v/broken.test.js"), ("jest", "jest.json", "j/broken.test.cjs")],
)
def test_files_that_cannot_be_run(tool: str, file: str, path: str) -> None:
    """A test file that cannot even be loaded is no case, but is told with its message."""
    errors = read(tool, sample(file))["errors"]

    assert [error["file"] for error in errors] == [path]
    assert "Cannot find module" in errors[0]["message"]


def test_failing_hook() -> None:
    """A failing hook of Mocha is a failed case, as in Mocha's own count."""
    failed = [case["name"] for case in read("mocha", sample("mocha.json"))["cases"] if case["status"] == "failed"]

    assert failed == ["sum is wrong", 'hooks "before all" hook for "never runs"']


COVERAGE = [
    ("istanbul", "coverage-summary.json", {"lines": 60.0, "statements": 57.14, "branches": 25.0, "functions": 100.0}),
    ("istanbul", "coverage-final.json", {"lines": 60.0, "statements": 57.14, "branches": 25.0, "functions": 100.0}),
    ("lcov", "node.lcov", {"lines": 66.67, "branches": 75.0, "functions": 100.0}),
]


@pytest.mark.parametrize(("tool", "file", "figures"), COVERAGE)
def test_coverage_reports(tool: str, file: str, figures: dict[str, float]) -> None:
    """Percentages are the tool's own, in all and for each file."""
    found = read(tool, sample(file))

    assert {name: value for name, value in found.items() if name != "files"} == figures
    (file_found,) = found["files"]
    assert {name: value for name, value in file_found.items() if name != "file"} == figures
    assert file_found["file"] in {"j/sum.cjs", "src/sum.js"}


def test_coverage_py() -> None:
    """A file without branches has no figure for them."""
    found = read("coverage.py", sample("coverage-py.json"))

    assert (found["lines"], found["statements"], found["branches"]) == (89.66, 89.66, 50.0)
    assert "functions" not in found
    assert found["files"][0] == {"file": "sums.py", "lines": 80.0, "statements": 80.0, "branches": 50.0}
    assert "branches" not in found["files"][2]


LINT = [
    ("eslint", "eslint.json", (4, 2), ("lintp/bad.js", 3, 15, "no-debugger", "error")),
    ("biome", "biome.json", (3, 4), ("lintp/bad.js", 3, 15, "lint/suspicious/noDebugger", "error")),
    ("biome", "biome-1.json", (6, 0), ("lintp/bad.js", 3, 15, "lint/suspicious/noDebugger", "error")),
    ("oxlint", "oxlint.json", (1, 2), ("lintp/bad.js", 3, 15, "eslint(no-debugger)", "warning")),
    ("ruff", "ruff.json", (4, 0), ("sums.py", 1, 8, "F401", "error")),
    ("tsc", "tsc.txt", (4, 0), ("lintp/multi.ts", 3, 26, "TS2304", "error")),
    ("svelte-check", "svelte-check.txt", (3, 3), ("src/lib/Bad.svelte", 6, 26, "TS2304", "error")),
]


@pytest.mark.parametrize(("tool", "file", "counts", "issue"), LINT)
def test_lint_reports(tool: str, file: str, counts: tuple[int, int], issue: tuple[Any, ...]) -> None:
    """Errors and warnings are the tool's own count; an issue has its place, its rule and its message."""
    found = read(tool, sample(file))

    assert (found["errors"], found["warnings"]) == counts
    assert len(found["issues"]) == sum(counts)
    shown = {tuple(each[name] for name in ("file", "line", "column", "rule", "severity")) for each in found["issues"]}
    assert issue in shown
    assert all(each["message"] for each in found["issues"])


def test_type_errors_of_several_lines() -> None:
    """Indented lines belong to the message before; an error without a place is kept."""
    issues = read("tsc", sample("tsc.txt"))["issues"]

    assert issues[0]["message"].endswith("Type 'string' is not assignable to type 'number'.")
    assert (issues[-1]["file"], issues[-1]["rule"]) == ("", "TS5058")


def test_endless_message() -> None:
    """A message that never ends is cut, and does not cost more with every line."""
    (issue,) = read("tsc", b"a(1,1): error TS1: m" + b"\n  x" * 199_999)["issues"]

    assert issue["message"] == "m" + "\n  x" * 30


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuites><testcase name="&b;"/></testsuites>'
OUTSIDE = '<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuites/>'
INVALID = [
    ("jest", b"", "JSON"),
    ("jest", b"[" * 100_000, "JSON"),
    ("jest", b"\xff\xfe\x00", "JSON"),
    ("jest", b"[]", "not a JSON object"),
    ("jest", b'{"testResults": {}}', "no list of testResults"),
    ("jest", b'{"a": ' + b"9" * 5_000 + b"}", "JSON"),
    ("jest", b" " * (MAX_BYTES + 1), "larger than 20 MB"),
    ("eslint", b"[" + b"[]," * MAX_VALUES, "more than 2,000,000 values"),
    ("mocha", b"{}", "no list of tests"),
    ("junit", b"<testsuites>", "XML"),
    ("junit", b"<html/>", "no test suites"),
    ("junit", BOMB.encode(), "document type"),
    ("junit", OUTSIDE.encode(), "document type"),
    ("junit", b"<testsuites>" + b"<testsuite>" * 200, "too deep"),
    ("junit", b"<testsuites>" + b"<a/>" * 500_001, "too many"),
    ("junit", b'<?xml version="1.0" encoding="no-such"?><testsuites/>', "XML"),
    ("istanbul", b'{"a": 1}', "neither a total nor files"),
    ("lcov", b"hello", "no files"),
    ("coverage.py", b"{}", "no totals"),
    ("biome", b"{}", "no list of diagnostics"),
    ("ruff", b"{}", "no list of findings"),
    ("tsc", b" " * (MAX_BYTES + 1), "larger"),
    ("tsc", b"a(1,1): error TS1: m\n" * 200_001, "more than 200,000 lines"),
]


@pytest.mark.parametrize(("tool", "data", "why"), INVALID, ids=lambda value: str(value)[:20])
def test_invalid_reports(tool: str, data: bytes, why: str) -> None:
    """What is no report of the tool is refused with a reason."""
    with pytest.raises(ReportInvalid, match=why):
        read(tool, data)


def jest_report(*assertions: dict[str, Any], **file: Any) -> bytes:
    return json.dumps(
        {"testResults": [{"name": "/work/project/a.test.js", **file, "assertionResults": assertions}]}
    ).encode()


def test_many_cases() -> None:
    """Of more cases than a result may hold, failures stay, the order too, and the rest is counted."""
    cases = [{"fullName": f"case {at}", "status": "failed" if at % 1_000 == 0 else "passed"} for at in range(5_000)]

    found = read("jest", jest_report(*cases))

    assert (found["total"], found["passed"], found["failed"]) == (5_000, 4_995, 5)
    assert len(found["cases"]) + found["casesCut"] == 5_000
    assert len(found["cases"]) == 1_000
    names = [case["name"] for case in found["cases"]]
    assert {"case 0", "case 1000", "case 4000"} <= set(names)
    assert names == sorted(names, key=lambda name: int(name.split()[1]))


def test_long_texts() -> None:
    """Texts are cut, and all of them together have a bound."""
    cases = [{"fullName": "n" * 10_000, "status": "failed", "failureMessages": ["m" * 10_000]}] * 900

    found = read("jest", jest_report(*cases))

    assert all(len(case["message"]) == MAX_MESSAGE for case in found["cases"])
    assert len(json.dumps(found)) < MAX_LIST_CHARS + 1_000
    assert found["casesCut"] + len(found["cases"]) == 900


def test_strange_numbers() -> None:
    """Negative, huge, endless and missing numbers become sane ones."""
    durations = ["-5", "1e400", "NaN", "true", '"7"', "null", "9" * 400, "3.6"]
    text = ",".join(
        f'{{"status":"passed","title":"t","duration":{each},"location":{{"line":{each}}}}}' for each in durations
    )

    found = read("jest", f'{{"startTime":1e400,"testResults":[{{"endTime":-1,"assertionResults":[{text}]}}]}}'.encode())

    assert [case["durationMs"] for case in found["cases"]][:6] == [0, 604_800_000, 0, 0, 0, 0]
    assert [case.get("line") for case in found["cases"]] == [None, MAX_NUMBER, None, None, None, None, MAX_NUMBER, 4]
    assert found["cases"][-1]["durationMs"] == 4


def test_texts_that_could_harm() -> None:
    """Terminal escapes, control characters and halves of surrogate pairs do not get through."""
    message = "\x1b[31mred\x1b[0m \0 \ud800 <b>__proto__</b> at file:///work/project/src/a.js:1"

    (case,) = read("jest", jest_report({"title": "t", "status": "failed", "failureMessages": [message]}))["cases"]

    assert case["message"] == "red  ? <b>__proto__</b> at src/a.js:1"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/work/project/src/../a.js", "a.js"),
        ("./src//a.js", "src/a.js"),
        ("/etc/passwd", "/etc/passwd"),
        ("file:///work/project/a.js", "a.js"),
        (7, ""),
    ],
)
def test_paths(given: Any, path: str) -> None:
    """Paths of the project are relative to it and in one form; others are left alone."""
    report = [{"filePath": given, "messages": [{"severity": 2, "message": "m"}]}]

    assert read("eslint", json.dumps(report).encode())["issues"][0]["file"] == path


def test_combined() -> None:
    """Several reports of one kind add up."""
    tests = reports.combined("tests", [read("jest", sample("jest.json")), read("mocha", sample("mocha.json"))])
    lint = reports.combined("lint", [read("eslint", sample("eslint.json")), read("tsc", sample("tsc.txt"))])

    assert (tests["total"], tests["passed"], tests["failed"], tests["skipped"]) == (9, 3, 3, 3)
    assert len(tests["cases"]) == 9
    assert len(tests["errors"]) == 1
    assert (lint["errors"], lint["warnings"], len(lint["issues"])) == (8, 2, 10)


def test_combined_counts_what_was_cut() -> None:
    """What each of several reports left out is in the counts of all."""
    cases = [{"title": str(at), "status": "passed"} for at in range(1_500)]
    issues = [{"filePath": "a", "messages": [{"severity": 1, "message": "m"}] * 1_500}]
    tests = reports.combined("tests", [read("jest", jest_report(*cases))] * 2)
    lint = reports.combined("lint", [read("eslint", json.dumps(issues).encode())] * 2)

    assert (tests["total"], len(tests["cases"]), tests["casesCut"]) == (3_000, 1_000, 2_000)
    assert (lint["warnings"], len(lint["issues"]), lint["issuesCut"]) == (3_000, 1_000, 2_000)
