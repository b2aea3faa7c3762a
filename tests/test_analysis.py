"""What an analysis is ordered to do, and what is made of its report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from executor import reports
from executor.recipes import plan
from executor.reports import ReportInvalid
from jobs import JobType, Request

VITE: dict[str, Any] = {
    "scripts": {"build": "tsc -b && vite build"},
    "devDependencies": {"vite": "^8", "typescript": "^6"},
}
PARTS = ("files", "types", "lint", "outdated", "unused", "packages", "bundle")


def ordered(files: dict[str, str], package: dict[str, Any], **fields: Any) -> dict[str, dict[str, Any]]:
    """The parts that an analysis is told to do, by name."""
    request = Request(JobType.ANALYZE, {"package.json": json.dumps(package), **files}, **fields)
    return {part["part"]: part for part in json.loads(shlex.split(plan(request).works[0].command)[2])}


def test_all_parts_are_ordered() -> None:
    """A project with everything gets every part, each with the project's own tools."""
    found = ordered({"tsconfig.json": "{}", "vite.config.ts": "outDir: 'site'", "src/a.ts": ""}, VITE)

    assert tuple(found) == PARTS
    assert not [part for part in found.values() if "skipped" in part]
    assert found["types"]["run"] == "tsc --noEmit -p tsconfig.json --pretty false >/work/reports/types-0-tsc.txt"
    assert found["types"]["reports"] == [["types-0-tsc.txt", "tsc"]]
    assert found["lint"]["reports"] == [["lint-0-oxlint.json", "oxlint"]]
    assert found["bundle"]["run"] == "tsc -b && vite build --sourcemap hidden"
    assert found["bundle"]["folders"] == ["site", "dist", "build", "out", ".output"]


def test_what_is_not_there_is_skipped() -> None:
    """A part that has nothing to look at is told so, and why."""
    found = ordered({"README.md": ""}, {})

    assert {part: found[part]["skipped"].partition(":")[0] for part in PARTS if "skipped" in found[part]} == {
        "types": "there is no tsconfig.json with the package typescript",
        "lint": "there are no sources that a linter reads",
        "outdated": "the project has no packages",
        "unused": "the project has no packages",
        "packages": "the project has no packages",
        "bundle": "nothing builds",
    }


@pytest.mark.parametrize(
    ("package", "command", "run"),
    [
        ({"devDependencies": {"vite": "^8"}}, "", "vite build --sourcemap hidden"),
        ({"scripts": {"build": "webpack"}}, "", "npm run build"),
        ({"scripts": {"build": "webpack"}}, "vite build -l warn", "vite build -l warn --sourcemap hidden"),
        ({"scripts": {"build": "vite build --sourcemap=false"}}, "", "npm run build"),
        ({"scripts": {"build": "vite dev"}}, "", "npm run build"),
    ],
)
def test_what_builds(package: dict[str, Any], command: str, run: str) -> None:
    """The caller's command builds, else the script, else Vite; and Vite is asked for source maps."""
    assert ordered({}, package, command=command)["bundle"]["run"] == run


def test_newer_versions_are_asked_for_by_the_install() -> None:
    """Only an install reaches the registry, so each of its commands asks too; the answer cannot fail it."""
    files = {"package.json": json.dumps(VITE), "package-lock.json": "{}"}

    for command in plan(Request(JobType.ANALYZE, files)).install:
        assert command.startswith("npm ")
        assert " && { timeout 15 npm outdated --json >" in command
        assert command.endswith("|| true; }")
    assert not any("outdated" in command for command in plan(Request(JobType.BUILD, files)).install)


def read(*parts: dict[str, Any]) -> dict[str, Any]:
    return reports.read("analysis", json.dumps({"parts": parts}).encode())


def wrote(part: str, report: Any, **fields: Any) -> dict[str, Any]:
    return {"part": part, "code": 0, "reports": [{"format": "json", "text": json.dumps(report)}], **fields}


TSC = {"format": "tsc", "text": "a.ts(1,2): error TS1: no\n"}
ENDS: list[tuple[dict[str, Any], str]] = [
    ({"skipped": "none"}, "none"),
    ({"code": 127, "tail": "sh: tsc: not found", "reports": [TSC]}, "not found (exit code 127): sh: tsc: not found"),
    ({"code": 137, "reports": [TSC]}, "it was killed, perhaps for want of memory (exit code 137)"),
    ({"code": 137, "timedOut": True, "reports": [TSC]}, "it took too long"),
    ({"code": 1, "reports": [{**TSC, "text": ""}], "tail": "boom"}, "it failed without a finding (exit code 1): boom"),
    ({"code": 1, "reports": []}, "it wrote no report (exit code 1)"),
    ({"code": 1, "reports": [{"format": "eslint", "text": "no"}]}, "it is not JSON that can be read"),
    ({"code": 1, "reports": [{"format": "vitest", "text": "{}"}]}, "it wrote no report (exit code 1)"),
]


@pytest.mark.parametrize(("part", "why"), ENDS)
def test_a_check_that_did_not_run(part: dict[str, Any], why: str) -> None:
    """It is skipped, and says why."""
    assert read({"part": "types", **part})["types"]["skipped"].startswith(why)


def test_a_check_that_ran() -> None:
    """Its findings are those of a lint, of all its reports together."""
    found = read({"part": "types", "code": 2, "reports": [TSC, {"format": "tsc", "text": ""}]})

    assert (found["types"]["errors"], found["types"]["issues"][0]["rule"]) == (1, "TS1")
    assert found["lint"] == {"skipped": "it was not reported"}


def test_outdated() -> None:
    """What npm says of newer versions; majors are marked, and what is not installed is none."""
    packages = {
        "a": {"current": "1.2.3", "wanted": "1.3.0", "latest": "2.0.0"},
        "b": {"current": "1.2.3", "wanted": "1.3.0", "latest": "1.3.0"},
        "c": {"wanted": "1.3.0", "latest": "2.0.0"},
        "d": [{"current": "9.0.0", "wanted": "9.0.0", "latest": "10.0.0"}],
        "e": {"current": "git"},
    }
    found = read(wrote("outdated", packages))["dependencies"]["outdated"]

    assert found["majors"] == 2
    assert [(each["name"], each["major"]) for each in found["packages"]] == [
        ("a", True), ("b", False), ("c", False), ("d", True),
    ]  # fmt: skip


def test_outdated_without_a_registry() -> None:
    """No answer is no list, and an empty one is that nothing is outdated."""
    failed = read(wrote("outdated", {"error": {"code": "ENOTFOUND", "summary": "no network"}}))
    nothing = read({"part": "outdated", "reports": [{"format": "json", "text": ""}]})

    assert failed["dependencies"]["outdated"] == {"skipped": "the registry was not reached: no network"}
    assert nothing["dependencies"]["outdated"] == {"majors": 0, "packages": []}


def test_unused_and_missing() -> None:
    """What Knip says, by kind."""
    issues = [
        {"file": "package.json", "dependencies": [{"name": "clsx"}], "devDependencies": [{"name": "jest"}]},
        {"file": "a.ts", "unlisted": [{"name": "lodash", "line": 3}], "unresolved": [{"name": "./nope", "line": 4}]},
    ]
    found = read(wrote("unused", {"issues": issues}))["dependencies"]

    assert found["unused"] == {"packages": [{"name": "clsx", "dev": False}, {"name": "jest", "dev": True}]}
    assert found["missing"] == {"packages": [{"name": "lodash", "file": "a.ts", "line": 3}]}
    assert found["unresolved"] == {"imports": [{"name": "./nope", "file": "a.ts", "line": 4}]}


def test_installed_packages() -> None:
    """Packages in several versions, and whose licence is what."""
    rows = [["a", "1.0.0", "MIT"], ["a", "2.0.0", "MIT"], ["b", "1.0.0", ""], ["c", "1.0.0", "ISC"], ["odd"], 7]
    found = read({"part": "packages", "data": rows})["dependencies"]

    assert found["duplicates"] == {"installed": 4, "packages": [{"name": "a", "versions": ["1.0.0", "2.0.0"]}]}
    assert found["licenses"] == {
        "licenses": [{"license": "MIT", "packages": 2}, {"license": "ISC", "packages": 1}],
        "unknown": [{"name": "b", "version": "1.0.0"}],
    }


def test_bundle() -> None:
    """Chunks by size, and the packages whose code is in them."""
    modules = [{"file": "node_modules/@x/y/a.js", "bytes": 50}, {"file": "src/a.ts", "bytes": 30}]
    data = {
        "folder": "dist",
        "chunks": [
            {"file": "b.css", "bytes": 10, "gzipBytes": 9},
            {"file": "a.js", "bytes": 100, "gzipBytes": 60, "modules": modules, "modulesCut": 0},
        ],
        "others": {"files": 1, "bytes": 5},
    }
    found = read({"part": "bundle", "code": 0, "data": data})["bundle"]

    assert (found["folder"], found["bytes"], found["others"]) == ("dist", 115, {"files": 1, "bytes": 5})
    assert found["packages"] == [{"name": "@x/y", "bytes": 50}, {"name": "", "bytes": 30}]
    assert [chunk["file"] for chunk in found["chunks"]] == ["a.js", "b.css"]
    assert found["chunks"][0]["modules"] == modules


def test_a_build_that_failed() -> None:
    """There is no bundle, and the end of what the build said."""
    found = read({"part": "bundle", "code": 1, "tail": "cannot resolve x"})

    assert found["bundle"] == {"skipped": "the build failed (exit code 1): cannot resolve x"}


def test_a_real_report() -> None:
    """What our own tool wrote about Vite's React template with two mistakes and a package too many."""
    found = reports.read("analysis", (Path(__file__).parent / "data" / "reports" / "analysis.json").read_bytes())

    assert (found["files"]["files"], found["files"]["types"][0]["type"]) == (20, ".json")
    assert (found["types"]["errors"], found["lint"]["warnings"]) == (2, 1)
    assert found["dependencies"]["unused"] == {"packages": [{"name": "clsx", "dev": False}]}
    assert found["dependencies"]["outdated"]["majors"] == 1
    assert found["dependencies"]["duplicates"]["packages"][0]["name"] == "scheduler"
    assert found["dependencies"]["licenses"]["unknown"] == [{"name": "scheduler", "version": "0.1.0"}]
    assert found["bundle"]["packages"][0]["name"] == "react-dom"
    assert found["bundle"]["chunks"][0]["modulesCut"] > 0


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"parts": 1}'])
def test_no_analysis(data: bytes) -> None:
    """A report that is none is refused."""
    with pytest.raises(ReportInvalid):
        reports.read("analysis", data)
