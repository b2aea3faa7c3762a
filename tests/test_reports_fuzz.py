"""Reports nobody thought of: real ones, changed at random, are read into the usual form or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.reports import FORMATS, ReportInvalid, combined, read
from tests.test_reports import sample

JSON_REPORTS = [
    ("vitest", "vitest.json"), ("jest", "jest.json"), ("mocha", "mocha.json"), ("istanbul", "coverage-summary.json"),
    ("istanbul", "coverage-final.json"), ("coverage.py", "coverage-py.json"), ("eslint", "eslint.json"),
    ("biome", "biome.json"), ("biome", "biome-1.json"), ("oxlint", "oxlint.json"), ("ruff", "ruff.json"),
    ("analysis", "analysis.json"),
]  # fmt: skip
OTHER_REPORTS = [
    ("junit", "node.xml"), ("junit", "pytest.xml"), ("junit", "bun.xml"), ("tsc", "tsc.txt"), ("lcov", "node.lcov"),
    ("svelte-check", "svelte-check.txt"),
]  # fmt: skip

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -1, 1e308, float("inf"), float("nan"), 2.5]),
    st.text(st.characters(), max_size=20), st.sampled_from(["", "passed", "failed", "/work/project/x", "\ud800"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3),
    st.dictionaries(st.sampled_from(["line", "message", "name", "total", "s", "__proto__"]), st.integers(), max_size=3),
)  # fmt: skip
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def well_formed(kind: str, found: dict[str, Any]) -> None:
    """Raise if a result is not what every reader promises."""
    json.dumps(found, allow_nan=False).encode()
    json.dumps(found, ensure_ascii=False).encode()
    if kind == "tests":
        assert found["total"] == found["passed"] + found["failed"] + found["skipped"]
        assert len(found["cases"]) + found.get("casesCut", 0) == found["total"]
        for case in found["cases"]:
            assert case["status"] in {"passed", "failed", "skipped"}
            assert type(case["durationMs"]) is int
            assert case["durationMs"] >= 0
            assert case.get("line", 1) > 0
    elif kind == "lint":
        assert sum(issue["severity"] == "error" for issue in found["issues"]) <= found["errors"]
        assert all(
            type(issue[name]) is int and issue[name] >= 0 for issue in found["issues"] for name in ("line", "column")
        )
        assert all(isinstance(issue[name], str) for issue in found["issues"] for name in ("file", "rule", "message"))
    elif kind == "analysis":
        analyzed(found)
    else:
        figures = [found, *found["files"]]
        assert all(
            0 <= each.get(name, 0) <= 100
            for each in figures
            for name in ("lines", "statements", "branches", "functions")
        )


def analyzed(found: dict[str, Any]) -> None:
    """Raise if a part of an analysis is neither there nor skipped."""
    for part in (found["types"], found["lint"]):
        if not skipped(part):
            well_formed("lint", part)
    for name, part in found["dependencies"].items():
        assert skipped(part) or isinstance(part[LISTS.get(name, "packages")], list)
    counts = [found["files"], *found["files"]["types"]] if not skipped(found["files"]) else []
    assert all(type(each[name]) is int and each[name] >= 0 for each in counts for name in ("files", "bytes", "lines"))
    bundle = found["bundle"]
    assert skipped(bundle) or bundle["bytes"] >= sum(chunk["bytes"] for chunk in bundle["chunks"]) >= 0


LISTS = {"licenses": "licenses", "unresolved": "imports"}


def skipped(part: dict[str, Any]) -> bool:
    """True if the part says why it is not there."""
    return bool(part.get("skipped"))


def check(tool: str, data: bytes) -> None:
    try:
        found = read(tool, data)
    except ReportInvalid:
        return
    well_formed(FORMATS[tool].kind, found)
    well_formed(FORMATS[tool].kind, combined(FORMATS[tool].kind, [found, found]))


def places(value: Any) -> list[Callable[[Any], None]]:
    """Ways to put something else in place of any part of a JSON value."""
    found: list[Callable[[Any], None]] = []
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        found.append(lambda odd, key=key: value.__setitem__(key, odd))  # type: ignore[misc]
        found += places(part)
    return found


@pytest.mark.parametrize(("tool", "file"), JSON_REPORTS)
@FUZZ
@given(data=st.data())
def test_changed_values(tool: str, file: str, data: st.DataObject) -> None:
    """Any values in place of any others never crash a reader."""
    report = json.loads(sample(file))
    for _ in range(data.draw(st.integers(1, 6))):
        data.draw(st.sampled_from(places(report)))(data.draw(ODD))

    check(tool, json.dumps(report).encode())


@pytest.mark.parametrize(("tool", "file"), [*JSON_REPORTS, *OTHER_REPORTS])
@FUZZ
@given(data=st.data())
def test_changed_bytes(tool: str, file: str, data: st.DataObject) -> None:
    """Bytes cut out, doubled or replaced never crash a reader."""
    report = sample(file)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(report)))
        end = start + data.draw(st.integers(0, 40))
        report = (
            report[:start] + data.draw(st.one_of(st.binary(max_size=8), st.just(report[start:end] * 2))) + report[end:]
        )

    check(tool, report)


@pytest.mark.parametrize("tool", FORMATS)
@FUZZ
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes(tool: str, data: bytes) -> None:
    """Bytes that are no report never crash a reader."""
    check(tool, data)
