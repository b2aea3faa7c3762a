"""Commands of projects, with reports turned on."""

from __future__ import annotations

from typing import Any

import pytest

from executor.commands import Project, all_of, instrumented

VITEST = "--run --reporter=default --reporter=json --outputFile.json=/work/reports/0-vitest.json"
JEST = "--ci --json --outputFile=/work/reports/0-jest.json --testLocationInResults"
NODE = (
    "--test --test-reporter=spec --test-reporter-destination=stdout --test-reporter=junit"
    " --test-reporter-destination=/work/reports/0-node.xml"
)
NODE_COVERAGE = (
    " --experimental-test-coverage --test-reporter=lcov --test-reporter-destination=/work/reports/0-node.lcov"
)
MOCHA = "--reporter /work/tools/mocha.cjs --reporter-option output=/work/reports/0-mocha.json"
C8 = "--reporter=text --reporter=json-summary --report-dir=/work/reports/0-coverage"
THROUGH = "sh /work/tools/covered.sh /work/reports/0-coverage.json --source=. -m"
PYTEST = "-o junit_family=xunit1 --junitxml=/work/reports/0-pytest.xml"
UNITTEST = "xmlrunner --output-file=/work/reports/0-unittest.xml"
ESLINT = "--format json --output-file /work/reports/0-eslint.json"


def project(files: dict[str, str] | None = None, **manifest: Any) -> Project:
    return Project(files or {}, manifest)


def rewritten(text: str, kind: str, of: Project) -> str | None:
    found = instrumented(text, kind, of)
    return found.text if found else None


TESTS = [
    ("vitest", f"vitest {VITEST}"),
    ("vitest --watch src", f"vitest src {VITEST}"),
    ("npx vitest run 'src/**/*.test.ts'", f"npx vitest run 'src/**/*.test.ts' {VITEST}"),
    ("NODE_ENV=test cross-env A=1 vitest", f"NODE_ENV=test cross-env A=1 vitest {VITEST}"),
    ("tsc && vitest", f"tsc && vitest {VITEST.replace('/0-', '/1-')}"),
    ("jest --watchAll", f"jest {JEST}"),
    ("node --experimental-vm-modules node_modules/jest/bin/jest.js",
     f"node --experimental-vm-modules node_modules/jest/bin/jest.js {JEST}"),
    ("node --test --watch", f"node {NODE}{NODE_COVERAGE}"),
    ("tsx --test", f"tsx {NODE}"),
    ("node --import tsx --test test/*.ts", f"node --import tsx {NODE} test/*.ts"),
    ("c8 mocha test", f"c8 {C8} mocha test {MOCHA}"),
    ("A=1 npx nyc mocha", f"A=1 npx nyc {C8} mocha {MOCHA}"),
    ("npx mocha test", f"npx mocha test {MOCHA}"),
    ("pytest", f"{THROUGH} pytest {PYTEST}"),
    ("A=1 python3 -m pytest -q 'tests/a b.py'", f"A=1 {THROUGH} pytest -q 'tests/a b.py' {PYTEST}"),
    ("uv run pytest && poetry run py.test x", f"uv run {THROUGH} pytest {PYTEST} && poetry run "
     + f"{THROUGH} pytest x {PYTEST}".replace("/0-", "/1-")),
    ("python -m unittest discover -s tests", f"{THROUGH} {UNITTEST} discover -s tests "),
    ("pytest --cov=x", f"pytest --cov=x {PYTEST} --cov-report=json:/work/reports/0-coverage.json"),
    ("pytest -n auto", f"pytest -n auto {PYTEST}"),
    ("bun test", "bun test --reporter=junit --reporter-outfile=/work/reports/0-bun.xml --coverage"
     " --coverage-reporter=text --coverage-reporter=lcov --coverage-dir=/work/reports/0-coverage"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "command"), TESTS)
def test_tests(text: str, command: str) -> None:
    """Flags follow the program; nothing of the command changes but that it does not watch."""
    assert rewritten(text, "tests", project()) == command


PLAIN = [
    "ava", "node test.js", "node server.js --test-mode", "vitest || true", "vitest; echo done", "vitest | cat",
    "vitest &", "(vitest)", "$(which vitest)", "echo vitest", "./run-vitest.sh", "vitest bench", "vitest 'unbalanced",
    "node --test --test-reporter=tap", "python tests.py", "python -m http.server", "coverage run -m nose",
    "python -W error -m pytest", "npm run missing", "", "&&", "echo 'a && vitest'",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_left_alone(text: str) -> None:
    """A command that is not plainly a runner's, or has a report of its own, is left as it is."""
    assert instrumented(text, "tests", project()) is None


SCRIPTS = {
    "unit": "vitest",
    "pretest": "tsc",
    "test": "npm run unit -- src",
    "all": "pnpm lint && yarn unit",
    "lint": "eslint .",
}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("npm test", f"tsc && vitest src {VITEST.replace('/0-', '/1-')}"),
        ("npm run unit", f"vitest {VITEST}"),
        ("yarn unit --bail", f"vitest --bail {VITEST}"),
        ("pnpm run all", f"eslint . && vitest {VITEST.replace('/0-', '/1-')}"),
        ("yarn vitest", f"yarn vitest {VITEST}"),
    ],
)
def test_scripts(text: str, command: str) -> None:
    """The call of a script becomes the script, with what runs before it, down to the runner."""
    assert rewritten(text, "tests", project(scripts=SCRIPTS)) == command


@pytest.mark.parametrize(
    "scripts",
    [
        {"a": "npm run a && vitest"},
        {"a": "npm run b -- x && vitest", "b": "&&"},
        {"a": " && ".join(["npm run b"] * 300), "b": " && ".join(["npm run c"] * 300), "c": "vitest"},
        {"a": "vitest " + "x" * 5_000},
    ],
)
def test_endless_scripts(scripts: dict[str, str]) -> None:
    """Scripts that call themselves, nothing, or too much are left to the package manager."""
    assert instrumented("npm run a", "tests", project(scripts=scripts)) is None


LINT = [
    ("eslint src --max-warnings 0", f"eslint src --max-warnings 0 {ESLINT}"),
    ("ruff check .", "ruff check . --output-format json --output-file /work/reports/0-ruff.json"),
    ("npx oxlint", "npx oxlint --format json >/work/reports/0-oxlint.json"),
    ("biome check .", "biome check . --max-diagnostics=none --reporter=json >/work/reports/0-biome.json"),
    ("tsc -b && prettier --check .", "tsc -b --pretty false >/work/reports/0-tsc.txt && prettier --check ."),
]


@pytest.mark.parametrize(("text", "command"), LINT)
def test_lint(text: str, command: str) -> None:
    """Linters write their findings to a file; other programs stay as they are."""
    assert rewritten(text, "lint", project()) == command
    assert instrumented("biome format .", "lint", project()) is None
    assert instrumented("ruff format --check .", "lint", project()) is None


COVERED = {"devDependencies": {"vitest": "^4", "@vitest/coverage-v8": "^4", "jest": "^30"}}
THRESHOLDS = {"vitest.config.ts": "coverage: { thresholds: { lines: 90 } }", "jest.config.js": "coverageThreshold: {}"}


@pytest.mark.parametrize(
    ("text", "files", "flags"),
    [
        ("vitest", {}, " --coverage.enabled --coverage.reporter=text"),
        ("vitest --coverage", {}, "vitest.json --includeTaskLocation --coverage.reporter=text"),
        ("vitest --coverage", THRESHOLDS, "--coverage.reporter=text"),
        ("jest", {}, "--testLocationInResults --coverage --coverageReporters=text"),
        ("jest --coverage", {}, "--testLocationInResults --coverageReporters=text"),
    ],
)
def test_coverage(text: str, files: dict[str, str], flags: str) -> None:
    """Coverage is measured where it can be, into the folder of reports."""
    found = instrumented(text, "tests", project(files, **COVERED))

    assert found
    assert flags in found.text
    assert found.text.endswith("/work/reports/0-coverage")
    assert [report.path for report in found.reports][1:] == ["0-coverage/coverage-summary.json"]


@pytest.mark.parametrize(
    ("text", "files", "manifest"),
    [
        ("vitest", {}, {"devDependencies": {"vitest": "^4"}}),
        ("vitest --coverage.enabled=false", {}, COVERED),
        ("vitest", THRESHOLDS, COVERED),
        ("jest", THRESHOLDS, COVERED),
        ("jest", {}, {**COVERED, "jest": {"coverageThreshold": {"global": {"lines": 100}}}}),
    ],
)
def test_no_coverage(text: str, files: dict[str, str], manifest: dict[str, Any]) -> None:
    """It is not turned on where that cannot work, or could fail the run for want of coverage."""
    found = instrumented(text, "tests", project(files, **manifest))

    assert found
    assert [report.format for report in found.reports] == [text.split(maxsplit=1)[0]]


def test_several() -> None:
    """Of several commands all run, each with a report of its own, and one failure fails them all."""
    found = all_of(["eslint .", "tsc --noEmit -p a"], "lint", project())

    assert found.text == (
        f"code=0 ; eslint . {ESLINT} || code=$? ; "
        "tsc --noEmit -p a --pretty false >/work/reports/1-tsc.txt || code=$? ; exit $code"
    )
    assert [(report.path, report.format, report.tool) for report in found.reports] == [
        ("0-eslint.json", "eslint", "eslint"), ("1-tsc.txt", "tsc", "tsc"),
    ]  # fmt: skip


def test_coverage_of_mocha() -> None:
    """Mocha is measured by c8 if the project has it and sets no limit of its own for it."""
    has = {"devDependencies": {"mocha": "^11", "c8": "^10"}}

    assert rewritten("npx mocha", "tests", project(**has)) == f"c8 {C8} mocha {MOCHA}"
    for limits in ({".c8rc.json": '{"check-coverage": true}'}, {".nycrc": '{"checkCoverage": true}'}):
        assert rewritten("mocha", "tests", project(limits, **has)) == f"mocha {MOCHA}"
    assert rewritten("mocha", "tests", project(**has, c8={"check-coverage": True})) == f"mocha {MOCHA}"


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({"pyproject.toml": "[tool.coverage.run]\nsource = ['src']\n"}, f"{THROUGH} pytest".replace("--source=. ", "")),
        ({".coveragerc": "[run]\ninclude=a.py\n"}, f"{THROUGH} pytest".replace("--source=. ", "")),
        ({"pytest.ini": "[pytest]\naddopts = --cov\n"}, "pytest"),
        ({"setup.cfg": "[tool:pytest]\naddopts = -n 4\n"}, "pytest"),
    ],
)
def test_coverage_of_python(config: dict[str, str], command: str) -> None:
    """What a Python project measures itself, and how, is left to it."""
    assert str(rewritten("pytest", "tests", project(config))).startswith(f"{command} {PYTEST}")
