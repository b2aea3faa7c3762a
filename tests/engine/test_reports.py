"""Test and lint jobs on real projects with their own tools: the result says what the tools say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import Conclusion, JobType, Reason
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMITS = {"memory_bytes": 1 << 30, "total_s": 200.0, "install_s": 150.0, "command_s": 60.0}
SUM = "export const sum = (a, b) => a + b\nexport const sign = (n) => (n < 0 ? -1 : 1)\n"
CASES = """
describe('sum', () => {
  it('adds', () => { expect(sum(1, 2)).toBe(3) })
  it('is wrong', () => { expect(sum(1, 1)).toBe(3) })
  it.skip('is skipped', () => {})
})
"""
NODE_CASES = """
import { describe, it } from 'node:test'
import assert from 'node:assert'
describe('sum', () => {
  it('adds', () => assert.equal(1 + 2, 3))
  it('is wrong', () => assert.equal(1 + 1, 3))
  it.skip('is skipped', () => {})
})
"""


def example(name: str) -> dict[str, str]:
    """The files of an example, node_modules and the like left out."""
    root, made = EXAMPLES / name, {"node_modules", "dist", "__pycache__", ".pytest_cache", ".ruff_cache"}
    files = (path for path in root.rglob("*") if path.is_file() and not made & set(path.parts))
    return {str(path.relative_to(root)): path.read_text() for path in files}


def package(**fields: Any) -> dict[str, str]:
    return {"package.json": json.dumps({"type": "module", **fields})}


def counts(tests: dict[str, Any]) -> tuple[int, ...]:
    return tuple(tests[name] for name in ("total", "passed", "failed", "skipped"))


def test_vitest(bench: Bench) -> None:
    """A Vite project's tests: cases with places, and coverage."""
    result = bench.run(example("vitest-app"), kind=JobType.TEST, limits=LIMITS)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert result.command.startswith("vitest")
    assert "reportInvalid" not in result.detail
    assert result.detail["selfReported"] is True
    tests, coverage = result.detail["tests"], result.detail["coverage"]
    assert counts(tests) == (5, 5, 0, 0)
    assert {case["file"] for case in tests["cases"]} == {"src/cart.test.ts", "src/Total.test.tsx"}
    assert all(case["line"] > 0 for case in tests["cases"])
    assert coverage["lines"] > 50
    assert "src/cart.ts" in {file["file"] for file in coverage["files"]}


def test_failing_vitest(bench: Bench) -> None:
    """A failed case fails the job; it says where and why, and so does the log. A watch mode ends."""
    files = package(scripts={"test": "vitest --watch"}, devDependencies={"vitest": "^4"})
    files |= {
        "sum.js": SUM,
        "sum.test.js": "import { describe, it, expect } from 'vitest'\nimport { sum } from './sum.js'" + CASES,
    }
    watch = Recorder()

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS, watch=watch)

    assert (result.reason, result.exit_code) == (Reason.TESTS_FAILED, 1), result.message
    assert result.message.startswith("1 of 3 tests failed (exit code 1):\n\n")
    assert counts(result.detail["tests"]) == (3, 1, 1, 1)
    (failed,) = [case for case in result.detail["tests"]["cases"] if case["status"] == "failed"]
    assert (failed["name"], failed["file"], failed["line"]) == ("sum is wrong", "sum.test.js", 5)
    assert "expected 2 to be 3" in failed["message"]
    assert "expected 2 to be 3" in watch.text("stderr")


def test_jest(bench: Bench) -> None:
    """Jest: its cases and its coverage, and what it prints is in the log."""
    files = {"package.json": json.dumps({"scripts": {"test": "jest"}, "devDependencies": {"jest": "^30"}})}
    files |= {"sum.js": "exports.sum = (a, b) => a + b", "sum.test.js": "const { sum } = require('./sum')" + CASES}

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.reason is Reason.TESTS_FAILED, result.message
    assert counts(result.detail["tests"]) == (3, 1, 1, 1)
    assert result.detail["coverage"]["lines"] == 100.0
    assert result.detail["coverage"]["files"][0]["file"] == "sum.js"
    assert "Expected: 3" in result.message


def test_mocha(bench: Bench) -> None:
    """Mocha without a script: found by its package; its own words are in the log, its cases in the result."""
    files = package(devDependencies={"mocha": "^11"})
    files["test/sum.js"] = NODE_CASES.replace("import { describe, it } from 'node:test'", "")

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.reason is Reason.TESTS_FAILED, result.message
    assert counts(result.detail["tests"]) == (3, 1, 1, 1)
    assert "1 passing" in result.output_tail


@pytest.mark.parametrize("scripts", [{}, {"test": "node --test --watch"}, {"test": "node --test *.test.js"}])
def test_node_test(bench: Bench, scripts: dict[str, str]) -> None:
    """Node's own runner, with and without a script, and never watching; nothing is installed."""
    result = bench.run({**package(scripts=scripts), "sum.test.js": NODE_CASES}, kind=JobType.TEST)

    assert (result.reason, result.exit_code) == (Reason.TESTS_FAILED, 1), result.message
    assert counts(result.detail["tests"]) == (3, 1, 1, 1)
    assert result.detail["tests"]["cases"][0]["file"] == "sum.test.js"


def test_coverage_of_node_test(bench: Bench) -> None:
    """Node's own runner measures what the tests reach, but for the tests."""
    tests = NODE_CASES.replace("1 + 1", "sum(1, 1)") + "import { sum } from './sum.js'\n"

    result = bench.run({**package(), "sum.js": SUM, "sum.test.js": tests}, kind=JobType.TEST)

    assert result.reason is Reason.TESTS_FAILED, result.message
    assert "reportInvalid" not in result.detail
    # Of `sum` and `sign` one is called, on one of two lines that are both executed.
    (file,) = result.detail["coverage"]["files"]
    assert (file["file"], file["lines"], file["functions"]) == ("sum.js", 100.0, 50.0)


def test_coverage_of_mocha(bench: Bench) -> None:
    """Mocha is measured by c8 where the project has that."""
    files = package(devDependencies={"mocha": "^11", "c8": "^10"}) | {"sum.js": SUM}
    files["test/sum.js"] = "import { sum } from '../sum.js'\nit('adds', () => { if (sum(1, 2) !== 3) throw Error() })\n"

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)
    (file,) = [each for each in result.detail["coverage"]["files"] if each["file"] == "sum.js"]
    assert (file["lines"], file["functions"]) == (100.0, 50.0)


def test_forged_report(bench: Bench) -> None:
    """What a report says does not change how a job ends."""
    forged = "<testsuites><testcase name='x' file='a.js'/></testsuites>"
    files = package(scripts={"test": "node --test && node forge.js"})
    files["forge.js"] = (
        f"import fs from 'node:fs'; fs.writeFileSync('/work/reports/0-node.xml', `{forged}`); process.exit(1)"
    )

    result = bench.run(files, kind=JobType.TEST)

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.TESTS_FAILED)
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)
    assert result.detail["selfReported"] is True


def test_report_in_the_way(bench: Bench) -> None:
    """A link in the folder of reports is no report; the job ends as its command did."""
    link = "rm -rf /work/reports/* && ln -s /etc/passwd /work/reports/0-node.xml"
    files = package(scripts={"test": "node --test", "posttest": "node link.js"})
    files["link.js"] = f"import {{ execSync }} from 'node:child_process'; execSync({link!r})"

    result = bench.run(files, kind=JobType.TEST)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    missing = [{"tool": "node", "report": f"0-node.{kind}", "reason": "it was not written"} for kind in ("xml", "lcov")]
    assert result.detail["reportInvalid"] == missing
    assert "tests" not in result.detail


def test_eslint(bench: Bench) -> None:
    """ESLint with a flat configuration: its findings, in the result, the log and the message."""
    watch = Recorder()

    result = bench.run(example("eslint-app"), kind=JobType.LINT, limits=LIMITS, watch=watch)

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.LINT_FAILED), result.message
    lint = result.detail["lint"]
    assert (lint["errors"], lint["warnings"]) == (2, 1)
    assert [(issue["file"], issue["line"], issue["rule"]) for issue in lint["issues"]] == [
        ("src/greet.js", 1, "no-unused-vars"), ("src/greet.js", 4, "eqeqeq"), ("src/greet.js", 4, "no-undef"),
    ]  # fmt: skip
    line = "src/greet.js:4:23: error: 'punctuation' is not defined. (no-undef)"
    assert line in watch.text("system")
    assert line in result.message
    assert result.message.startswith("2 errors and 1 warnings were found (exit code 1):\n\n")


def test_eslint_warnings(bench: Bench) -> None:
    """Findings that are no errors do not fail the job."""
    files = example("eslint-app")
    files["src/greet.js"] = "export const same = (a, b) => a == b\n"

    result = bench.run(files, kind=JobType.LINT, limits=LIMITS)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert (result.detail["lint"]["errors"], result.detail["lint"]["warnings"]) == (0, 1)


def test_biome_and_oxlint(bench: Bench) -> None:
    """Two linters that are configured both run, whatever the first finds."""
    files = package(devDependencies={"@biomejs/biome": "^2", "oxlint": "^1"})
    files |= {"biome.json": "{}", ".oxlintrc.json": "{}", "a.js": "if (a == 1) { debugger }\n"}

    result = bench.run(files, kind=JobType.LINT, limits=LIMITS)

    assert result.reason is Reason.LINT_FAILED, result.message
    assert "reportInvalid" not in result.detail
    rules = {issue["rule"] for issue in result.detail["lint"]["issues"]}
    assert {"lint/suspicious/noDebugger", "eslint(no-debugger)"} <= rules


def test_type_errors(bench: Bench) -> None:
    """Without a linter the type checker runs, for each project that a tsconfig of references only names."""
    options = {"strict": True, "skipLibCheck": True, "types": []}
    files = package(devDependencies={"typescript": "^5"})
    files |= {
        "tsconfig.json": '{"files": [], /* see */ "references": [{"path": "app"}, {"path": "./tsconfig.node.json"}],}',
        "app/tsconfig.json": json.dumps({"compilerOptions": options, "include": ["."]}),
        "tsconfig.node.json": json.dumps({"compilerOptions": options, "include": ["node"]}),
        "app/main.ts": "export const n: number = 'text'\n",
        "node/server.ts": "export const s: string = nowhere\n",
    }

    result = bench.run(files, kind=JobType.LINT, limits=LIMITS)

    assert result.reason is Reason.LINT_FAILED, result.message
    assert {(issue["file"], issue["line"], issue["rule"]) for issue in result.detail["lint"]["issues"]} == {
        ("app/main.ts", 1, "TS2322"), ("node/server.ts", 1, "TS2304"),
    }  # fmt: skip
    assert "app/main.ts:1:14: error: Type 'string'" in result.message


def test_missing_variable(bench: Bench) -> None:
    """A Vite build says its framework, and which variables it reads that nothing sets."""
    page = {"index.html": '<script type="module" src="/main.js"></script>'}
    page["main.js"] = "document.title = import.meta.env.VITE_CONVEX_URL + import.meta.env.VITE_NAME"
    watch = Recorder()

    result = bench.run(page, env={"VITE_NAME": "x"}, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert (result.detail["framework"], result.detail["missingEnv"]) == ("vite", ["VITE_CONVEX_URL"])
    assert "VITE_CONVEX_URL is not set" in watch.text("system")


def test_bun(bench: Bench) -> None:
    """Bun's own runner: its cases and its coverage."""
    files = package(scripts={"test": "bun test"}) | {"sum.js": SUM}
    files["sum.test.js"] = "import { describe, it, expect } from 'bun:test'\nimport { sum } from './sum.js'" + CASES

    result = bench.run(files, kind=JobType.TEST)

    assert result.reason is Reason.TESTS_FAILED, result.message
    assert counts(result.detail["tests"]) == (3, 1, 1, 1)
    assert result.detail["coverage"]["files"][0]["file"] == "sum.js"


def test_old_eslint(bench: Bench) -> None:
    """An .eslintrc, with a version of ESLint that by itself would look for another configuration."""
    files = package(devDependencies={"eslint": "^9"})
    files |= {".eslintrc.json": '{"root": true, "extends": "eslint:recommended"}', "src/a.js": "nowhere()\n"}

    result = bench.run(files, kind=JobType.LINT, limits=LIMITS)

    assert result.reason is Reason.LINT_FAILED, result.message
    assert [(issue["file"], issue["rule"]) for issue in result.detail["lint"]["issues"]] == [("src/a.js", "no-undef")]


def test_stopped_while_testing(bench: Bench) -> None:
    """A test run that is ended at its limit has no reports."""
    files = package(scripts={"test": "node --test"}) | {"a.test.js": "setInterval(() => {}, 1000)"}

    result = bench.run(files, kind=JobType.TEST, limits={"command_s": 2.0})

    assert result.conclusion is Conclusion.TIMEOUT
    assert not {"tests", "reportInvalid", "selfReported"} & set(result.detail)


def said(bench: Bench, files: dict[str, str], command: str) -> Any:
    """What a tool prints in its own JSON, whatever it finds."""
    watch = Recorder()
    result = bench.run(files, command=f"{command} || true", limits=LIMITS, watch=watch)
    assert result.conclusion is Conclusion.SUCCESS, result.message
    (line,) = (line for line in watch.text("stdout").splitlines() if line.startswith(("[{", "{")))
    return json.loads(line)


def test_eslint_as_it_says_itself(bench: Bench) -> None:
    """Every finding is what ESLint's own JSON has, field by field."""
    files = example("eslint-app")
    told = [
        {
            "file": each["filePath"].removeprefix("/work/project/"),
            "line": found["line"],
            "column": found["column"],
            "rule": found["ruleId"],
            "severity": {1: "warning", 2: "error"}[found["severity"]],
            "message": found["message"],
        }
        for each in said(bench, files, "eslint . --format json")
        for found in each["messages"]
    ]
    lint = bench.run(files, kind=JobType.LINT, limits=LIMITS).detail["lint"]

    assert sorted(lint["issues"], key=str) == sorted(told, key=str)
    assert lint["errors"] == sum(found["severity"] == "error" for found in told)


@pytest.mark.parametrize("runner", ["vitest", "jest"])
def test_cases_as_the_runner_says_itself(bench: Bench, runner: str) -> None:
    """Every case is what the runner's own JSON has: name, file and status; and so are the counts."""
    start = {
        "vitest": "import { describe, it, expect } from 'vitest'\nimport { sum } from './sum.js'",
        "jest": "const { sum } = require('./sum')",
    }[runner]
    source = {"vitest": SUM, "jest": "exports.sum = (a, b) => a + b"}[runner]
    manifest: dict[str, Any] = {
        "scripts": {"test": runner},
        "devDependencies": {runner: {"vitest": "^4", "jest": "^30"}[runner]},
    }
    manifest |= {"type": "module"} if runner == "vitest" else {}
    files = {"package.json": json.dumps(manifest), "sum.js": source, "sum.test.js": start + CASES}
    own = said(bench, files, {"vitest": "vitest run --reporter=json", "jest": "jest --json"}[runner])
    tests = bench.run(files, kind=JobType.TEST, limits=LIMITS).detail["tests"]

    states = {"passed": "passed", "failed": "failed", "skipped": "skipped", "pending": "skipped", "todo": "skipped"}
    told = sorted(
        (case["fullName"], each["name"].removeprefix("/work/project/"), states[case["status"]])
        for each in own["testResults"]
        for case in each["assertionResults"]
    )
    assert sorted((case["name"], case["file"], case["status"]) for case in tests["cases"]) == told
    assert counts(tests)[:3] == (own["numTotalTests"], own["numPassedTests"], own["numFailedTests"])
