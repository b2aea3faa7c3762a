"""Coverage reports as {lines, statements, branches, functions, files} in percent.

A figure that the tool does not give, or that has nothing to count, is absent. `files` holds the same per file, with
its path as `file`; those that are covered least are the last to be left out, and `filesCut` is how many are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from executor.reports.values import (
    Entry,
    ReportInvalid,
    bounded,
    inside,
    listed,
    load_object,
    number,
    path,
    percent,
    share,
)

FIGURES = ("lines", "statements", "branches", "functions")
_GOOD = 80
#: (covered, all) of each figure.
Counts = dict[str, tuple[int, int]]


def istanbul(data: bytes) -> Entry:
    """Istanbul's coverage-summary.json, or its coverage-final.json. Raises ReportInvalid."""
    report = load_object(data)
    if isinstance(total := report.get("total"), dict):
        files = {name: _counts(each) for name, each in report.items() if name != "total" and isinstance(each, dict)}
        return _result(_counts(total), files)
    files = {name: _hits(each) for name, each in report.items() if isinstance(inside(each, "s"), dict)}
    if report and not files:
        raise ReportInvalid("it has neither a total nor files")
    return _result(_sum(files.values()), files)


def coverage_py(data: bytes) -> Entry:
    """The JSON of coverage.py, whose lines are statements. Raises ReportInvalid."""
    report = load_object(data)
    if not isinstance(total := report.get("totals"), dict):
        raise ReportInvalid("it has no totals")
    found = report.get("files")
    files = {name: _python(inside(each, "summary")) for name, each in found.items()} if isinstance(found, dict) else {}
    return _result(_python(total), files)


def lcov(data: bytes) -> Entry:
    """An lcov tracefile, as node:test and Bun write it. Raises ReportInvalid."""
    files: dict[str, Counts] = {}
    name, numbers = "", dict[str, int]()
    for line in bounded(data).decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            name, numbers = value, {}
        elif value.isascii() and value.isdigit() and len(value) < 10:
            numbers[key] = int(value)
        elif key == "end_of_record" and name:
            files[name] = {
                each: (numbers.get(f"{short}H", 0), numbers.get(f"{short}F", 0))
                for each, short in (("lines", "L"), ("branches", "BR"), ("functions", "FN"))
            }
    if not files:
        raise ReportInvalid("it has no files")
    return _result(_sum(files.values()), files)


def combined(found: Sequence[Entry]) -> Entry:
    """Of several reports the one with most files: percentages of different wholes cannot be added."""
    return max(found, key=lambda report: len(report["files"]) + report.get("filesCut", 0))


def _result(total: Counts, files: dict[str, Counts]) -> Entry:
    entries = [{"file": path(name), **_figures(counts)} for name, counts in files.items()]
    return {**_figures(total), **listed("files", entries, _is_poor)}


def _figures(counts: Counts) -> Entry:
    shares = {name: share(min(covered, whole), whole) for name, (covered, whole) in counts.items()}
    return {name: found for name, found in shares.items() if found is not None}


def _counts(summary: Entry) -> Counts:
    return {
        name: (number(inside(summary, name, "covered")), number(inside(summary, name, "total"))) for name in FIGURES
    }


def _hits(file: Entry) -> Counts:
    """Counts of one file of coverage-final.json."""
    lines: dict[int, int] = defaultdict(int)
    statements = file["s"]
    for key, hits in statements.items():
        line = number(inside(file, "statementMap", key, "start", "line"))
        lines[line] = max(lines[line], number(hits))
    return {
        "lines": _positive(lines.values()),
        "statements": _positive(statements.values()),
        "branches": _positive(_branches(file.get("b"))),
        "functions": _positive(_values(file.get("f"))),
    }


def _values(value: Any) -> Iterator[Any]:
    return iter(value.values()) if isinstance(value, dict) else iter(())


def _branches(value: Any) -> Iterator[Any]:
    return (hits for ways in _values(value) if isinstance(ways, list) for hits in ways)


def _positive(hits: Any) -> tuple[int, int]:
    found = [number(each) > 0 for each in hits]
    return sum(found), len(found)


def _python(summary: Any) -> Counts:
    lines = (number(inside(summary, "covered_lines")), number(inside(summary, "num_statements")))
    branches = (number(inside(summary, "covered_branches")), number(inside(summary, "num_branches")))
    return {"lines": lines, "statements": lines, "branches": branches}


def _sum(files: Any) -> Counts:
    total: Counts = {}
    for counts in files:
        for name, (covered, whole) in counts.items():
            before = total.get(name, (0, 0))
            total[name] = (before[0] + covered, before[1] + whole)
    return total


def _is_poor(entry: Entry) -> bool:
    return bool((percent(entry.get("lines")) or 0) < _GOOD)
