"""Python projects with their own tools: the result says what the tools say."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

from executor.spec import CA_BUNDLE
from jobs import Conclusion, JobType, Reason, Result
from tests.engine.test_reports import counts, example
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

LIMITS: dict[str, float] = {"total_s": 200.0, "install_s": 90.0, "command_s": 90.0}
CALC = "def half(n):\n    if n % 2:\n        raise ValueError('odd')\n    return n // 2\n"


def cases(result: Result) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in result.detail["tests"]["cases"]}


def pyproject(*dependencies: str, backend: str = "", **tables: str) -> dict[str, str]:
    text = (
        f'[project]\nname = "thing"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = {list(dependencies)}\n'
    )
    text += f'[build-system]\nrequires = ["{backend}"]\nbuild-backend = "{backend}.build"\n' if backend else ""
    return {"pyproject.toml": text + "".join(f"[{name}]\n{body}\n" for name, body in tables.items())}


def test_pytest(bench: Bench) -> None:
    """A package with dependencies and a build backend: cases with places, coverage, and metadata of its own."""
    watch = Recorder()

    result = bench.run(example("pytest-app"), kind=JobType.TEST, limits=LIMITS, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, watch.text()
    assert "reportInvalid" not in result.detail
    assert counts(result.detail["tests"]) == (6, 5, 0, 1)
    places = {name: (case["file"], case["line"], case["status"]) for name, case in cases(result).items()}
    file = "tests/test_kitchen.py"
    assert places == {
        "test_scale[2-250]": (file, 6, "passed"), "test_scale[8-1000]": (file, 6, "passed"),
        "TestMistakes test_nobody": (file, 12, "passed"), "test_spoken": (file, 17, "passed"),
        "test_oven": (file, 21, "skipped"), "test_version": (file, 26, "passed"),
    }  # fmt: skip
    coverage = {entry["file"]: entry for entry in result.detail["coverage"]["files"]}
    # 12 statements, of which one is not reached: `return "no time at all"`.
    assert coverage["src/kitchen/__init__.py"]["lines"] == round(100 * 11 / 12, 2)
    assert [phase.name for phase in result.phases] == [
        "preparing", "installing", "installing", "testing", "collecting",
    ]  # fmt: skip
    assert "5 passed, 1 skipped" in watch.text("stdout")


def test_nothing_to_install(bench: Bench) -> None:
    """Plain files with failing tests: no install, and the message, cases and coverage of our own pytest."""
    files = {"calc.py": CALC, "test_calc.py": "from calc import half\n\ndef test_half():\n    assert half(4) == 3\n"}

    result = bench.run(files, kind=JobType.TEST)

    assert (result.reason, result.exit_code) == (Reason.TESTS_FAILED, 1), result.message
    assert result.message.startswith("1 of 1 tests failed (exit code 1):\n\n")
    assert (cases(result)["test_half"]["line"], cases(result)["test_half"]["file"]) == (3, "test_calc.py")
    assert "assert 2 == 3" in cases(result)["test_half"]["message"]
    coverage = {entry["file"]: entry.get("lines") for entry in result.detail["coverage"]["files"]}
    assert coverage == {"calc.py": 75.0, "test_calc.py": 100.0}
    assert "installing" not in [phase.name for phase in result.phases]


UNITTESTS = """
import unittest
from calc import half

class Half(unittest.TestCase):
    def test_even(self):
        self.assertEqual(half(4), 2)

    def test_wrong(self):
        self.assertEqual(half(4), 3)

    @unittest.skip("later")
    def test_later(self):
        pass

    def test_error(self):
        half("x")
"""


@pytest.mark.parametrize(
    ("path", "package", "command"),
    [
        ("test_calc.py", {}, ""),
        ("tests/test_calc.py", {}, ""),
        ("tests/test_calc.py", {"tests/__init__.py": ""}, "python3 -m unittest -v"),
    ],
)
def test_unittest(bench: Bench, path: str, package: dict[str, str], command: str) -> None:
    """Tests that are unittest's alone run with it: its cases, its own words in the log, and coverage."""
    files = {"calc.py": CALC, path: UNITTESTS, **package}

    result = bench.run(files, kind=JobType.TEST, test_command=command)

    assert (result.reason, result.exit_code) == (Reason.TESTS_FAILED, 1), result.message
    assert counts(result.detail["tests"]) == (4, 1, 2, 1)
    found = {name: (case["status"], case["file"], case.get("line")) for name, case in cases(result).items()}
    assert found["Half test_wrong"] == ("failed", path, 9)
    assert (found["Half test_even"][0], found["Half test_later"][0]) == ("passed", "skipped")
    assert "AssertionError: 2 != 3" in cases(result)["Half test_wrong"]["message"]
    assert "FAILED (failures=1, errors=1, skipped=1)" in result.output_tail
    assert {entry["file"]: entry.get("lines") for entry in result.detail["coverage"]["files"]}["calc.py"] == 75.0


def test_ruff(bench: Bench) -> None:
    """A project with rules of its own: its findings, in the result and in the log, and nothing is installed."""
    watch = Recorder()

    result = bench.run(example("ruff-app"), kind=JobType.LINT, watch=watch)

    assert (result.conclusion, result.reason, result.exit_code) == (Conclusion.FAILURE, Reason.LINT_FAILED, 1)
    lint = result.detail["lint"]
    assert (lint["errors"], lint["warnings"]) == (3, 0)
    assert [(i["file"], i["line"], i["column"], i["rule"], i["severity"]) for i in lint["issues"]] == [
        ("greet.py", 1, 8, "F401", "error"), ("greet.py", 4, 17, "B006", "error"), ("greet.py", 6, 34, "F821", "error"),
    ]  # fmt: skip
    assert "greet.py:6:34: error: Undefined name `punctuation` (F821)" in watch.text("system")


def test_rules_of_ours(bench: Bench) -> None:
    """Without rules of its own a project is told what is wrong, and not what is a matter of taste."""
    files = {"a.py": "import os\nx = 'long' * 99;\nassert (1, 'always')\n", "b.py": "def f(a = {}): return nowhere\n"}

    result = bench.run(files, kind=JobType.LINT)

    assert {(i["file"], i["rule"]) for i in result.detail["lint"]["issues"]} == {
        ("a.py", "F401"), ("a.py", "E703"), ("a.py", "F631"), ("b.py", "B006"), ("b.py", "F821"),
    }  # fmt: skip
    assert bench.run(files, kind=JobType.LINT, fail_on="never").conclusion is Conclusion.SUCCESS


def test_wheel(bench: Bench) -> None:
    """A build makes a source archive and a wheel whose own list of files holds."""
    watch = Recorder()

    result = bench.run(example("pytest-app"), limits=LIMITS, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert [artifact.path for artifact in result.artifacts] == [
        "kitchen-1.2.0-py3-none-any.whl", "kitchen-1.2.0.tar.gz",
    ]  # fmt: skip
    assert result.detail["outputDir"] == "dist"
    wheel = zipfile.ZipFile(io.BytesIO(watch.files["kitchen-1.2.0-py3-none-any.whl"]))
    assert wheel.read("kitchen/__init__.py").decode() == example("pytest-app")["src/kitchen/__init__.py"]
    for name, digest, _ in csv.reader(io.StringIO(wheel.read("kitchen-1.2.0.dist-info/RECORD").decode())):
        if digest:
            found = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).decode().rstrip("=")
            assert digest == f"sha256={found}", name


def test_setup_py(bench: Bench) -> None:
    """An old project builds with setuptools; what its setup.py does, it does without a network."""
    setup = """
import socket
from setuptools import setup
try:
    socket.create_connection(("127.0.0.1", 3128), 2)
except OSError as error:
    print("NETWORK", type(error).__name__)
setup(name="old", version="0.1", py_modules=["calc"])
"""
    watch = Recorder()

    result = bench.run({"setup.py": setup, "calc.py": CALC}, limits=LIMITS, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, watch.text()
    assert "old-0.1-py3-none-any.whl" in watch.files
    assert "NETWORK ConnectionRefusedError" in watch.text()


SIX_HASH = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"


def test_requirements(bench: Bench) -> None:
    """requirements.txt with what it refers to, requirements-dev.txt, and the request's own packages."""
    files = {
        "requirements.txt": "-r more.txt\n-c pins.txt\nidna  # names\n",
        "more.txt": "six==1.16.0 \\\n  --hash=sha256:" + SIX_HASH + "\n",
        "pins.txt": "idna==3.6\n",
        "requirements-dev.txt": "-r requirements.txt\npytest==8.3.5\n",
        "test_versions.py": """
from importlib.metadata import version
def test_versions():
    found = {name: version(name) for name in ("six", "idna", "pytest", "sniffio")}
    assert found == {"six": "1.16.0", "idna": "3.6", "pytest": "8.3.5", "sniffio": "1.3.1"}
""",
    }

    wanted = {"dependencies": {"sniffio": "1.3.1"}}
    result = bench.run(files, kind=JobType.TEST, limits=LIMITS, dependencies=wanted)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)


def test_uv_lock(bench: Bench, uv_lock: str) -> None:
    """What uv.lock says is installed, with the group dev, although there is newer; and the project, as a package."""
    files = pyproject("idna", backend="hatchling", **{"dependency-groups": 'dev = ["pytest>=8,<9"]'})
    files |= {"uv.lock": uv_lock, "thing/__init__.py": "", "tests/test_versions.py": VERSIONS}

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)


def test_outdated_uv_lock(bench: Bench, uv_lock: str) -> None:
    """A lock that does not match is told, and what is missing is added to it."""
    files = pyproject("idna", "six", backend="hatchling", **{"dependency-groups": 'dev = ["pytest>=8,<9"]'})
    files |= {"uv.lock": uv_lock, "thing/__init__.py": "", "tests/test_versions.py": VERSIONS + "    import six\n"}
    watch = Recorder()

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert "the lockfile does not match" in watch.text("system")


VERSIONS = """
from importlib.metadata import version
def test_versions():
    assert (version("idna"), version("thing"), version("pytest").split(".")[0]) == ("3.6", "1.0", "8")
"""


@pytest.fixture(scope="module")
def uv_lock(images: Any, client: Any) -> str:
    """A lock that uv itself made, of an older version of a dependency."""
    text = pyproject("idna==3.6", backend="hatchling", **{"dependency-groups": 'dev = ["pytest>=8,<9"]'})[
        "pyproject.toml"
    ]
    script = (
        'mkdir /tmp/p && cd /tmp/p && printf %s "$0" >pyproject.toml && uv lock -q'
        " && sed -i 's/idna==3.6/idna/' pyproject.toml && uv lock -q && cat uv.lock"
    )
    locked = client.containers.run(images.ensure(client, "chef-runner-python"), ["sh", "-c", script, text], remove=True,
                                   environment=[f"SSL_CERT_FILE={CA_BUNDLE}"])  # fmt: skip
    return str(locked.decode())


POETRY = """
[tool.poetry]
name = "thing"
version = "1.0"
description = ""
authors = []

[tool.poetry.dependencies]
python = "^3.11"
idna = "^3.4"

[tool.poetry.group.dev.dependencies]
pytest = "^8"

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
#: As Poetry writes it.
POETRY_LOCK = """
# This file is automatically @generated by Poetry 2.1.1 and should not be changed by hand.

[[package]]
name = "idna"
version = "3.6"
description = "Internationalized Domain Names in Applications (IDNA)"
optional = false
python-versions = ">=3.5"
groups = ["main"]
files = [
    {file = "idna-3.6-py3-none-any.whl", hash = "sha256:HASH"},
]

[metadata]
lock-version = "2.1"
python-versions = "^3.11"
content-hash = "0000000000000000000000000000000000000000000000000000000000000000"
"""
IDNA_HASH = "c05567e9c24a6b9faaa835c4821bad0590fbb9d5779e7caa6e1cc4978e7eb24f"


def test_poetry_lock(bench: Bench) -> None:
    """What poetry.lock says is installed, although there is newer, and the groups that are not optional."""
    files = {"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK.replace("HASH", IDNA_HASH), "thing/__init__.py": ""}
    files["tests/test_versions.py"] = VERSIONS

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS, test_command="poetry run pytest -q")

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)


def test_poetry_hash(bench: Bench) -> None:
    """A package that is not the one that was locked is not installed."""
    files = {"pyproject.toml": POETRY, "poetry.lock": POETRY_LOCK.replace("HASH", "0" * 64), "test_a.py": ""}

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.reason is Reason.INSTALL_FAILED
    assert "Hash mismatch for `idna==3.6`" in result.message


def test_scripts_are_off(bench: Bench) -> None:
    """A package without a wheel would run its setup.py: that fails the install, and says why; unless it is wished."""
    files = {"requirements.txt": "docopt==0.6.2\n", "test_a.py": "import docopt\ndef test_a(): pass\n"}

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.INSTALL_FAILED)
    assert "docopt" in result.message
    assert "building from source is disabled" in result.message
    assert bench.run(files, kind=JobType.TEST, limits=LIMITS, install_scripts=True).conclusion is Conclusion.SUCCESS


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["docopt"]\n[tool.uv.pip]\nno-binary = ["docopt"]\n',
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["docopt"]\n[tool.uv]\nno-binary-package = ["docopt"]\n',
    ],
)
@pytest.mark.parametrize("lock", [{}, {"uv.lock": "version = 0\n"}])
def test_settings_that_would_build(bench: Bench, text: str, lock: dict[str, str]) -> None:
    """A project cannot turn the building of packages on by its own settings of the package manager."""
    files = {"pyproject.toml": text, "test_a.py": "def test_a(): pass\n", **lock}

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.reason is Reason.INSTALL_FAILED, result.message
    assert "docopt" in result.message


def test_own_tools_win(bench: Bench) -> None:
    """A linter and a test runner of the project's own versions run, not ours."""
    files = {"requirements.txt": "ruff==0.8.0\npytest==8.3.5\n", "test_a.py": "import pytest\ndef test_a(): pass\n"}
    command = "ruff --version && pytest --version && python -m pytest --version && uv run pytest --version"
    watch = Recorder()

    result = bench.run(files, limits=LIMITS, watch=watch, command=command)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert watch.text().count("ruff 0.8.0\n") == 1
    assert watch.text().count("pytest 8.3.5\n") == 3


def test_no_such_package(bench: Bench) -> None:
    """A package that no registry has fails the install, and the message names it."""
    result = bench.run(
        {"requirements.txt": "no-such-package-3f9a==1\n", "test_a.py": ""}, kind=JobType.TEST, limits=LIMITS
    )

    assert result.reason is Reason.INSTALL_FAILED
    assert "no-such-package-3f9a was not found" in result.message


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"requirements.txt": "x @ git+https://host.test/me/x.git@v1\n"}, "git+https://host.test/me/x.git@v1"),
        ({"requirements.txt": "--extra-index-url https://host.test/simple\nidna\n"}, "https://host.test/simple"),
        ({"pyproject.toml": '[project]\ndependencies = ["x"]\n[tool.uv.sources]\nx = { path = "../x" }'}, "../x"),
    ],
)  # fmt: skip
def test_refused_sources(bench: Bench, files: dict[str, str], source: str) -> None:
    """A dependency from git, another index or outside the project is refused before anything starts."""
    watch = Recorder()

    result = bench.run(files, command="true", watch=watch)

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.DEPENDENCY_SOURCE_NOT_ALLOWED)
    assert source in result.message
    assert watch.text() == ""


def test_threshold_of_coverage(bench: Bench) -> None:
    """Coverage that is measured by us alone does not fail the tests, whatever the project's limit for it."""
    files = {"calc.py": CALC, "test_calc.py": "import calc\ndef test_a(): pass\n"}
    files[".coveragerc"] = "[run]\nparallel = true\nbranch = true\n[report]\nfail_under = 99\n"

    result = bench.run(files, kind=JobType.TEST)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    figures = result.detail["coverage"]
    assert (figures["lines"], figures["branches"]) == (50.0, 50.0)  # calc.py 1 of 4 and 0 of 2, the test all of 2 and 2


def test_cov_of_the_project(bench: Bench) -> None:
    """A project that measures by pytest-cov keeps its way, and its limit; the figures are in the result."""
    files = {
        "calc.py": CALC,
        "test_calc.py": "import calc\ndef test_a(): pass\n",
        "requirements.txt": "pytest-cov==6.0.0\n",
    }
    files["pytest.ini"] = "[pytest]\naddopts = --cov=calc --cov-fail-under=99\n"

    result = bench.run(files, kind=JobType.TEST, limits=LIMITS)

    assert result.reason is Reason.TESTS_FAILED
    assert result.detail["coverage"]["lines"] == 25.0
    assert counts(result.detail["tests"]) == (1, 1, 0, 0)


def test_broken_module(bench: Bench) -> None:
    """A test file that cannot be imported is a failure that shows why."""
    result = bench.run({"test_a.py": "import nowhere\n", "test_b.py": "def test_b(): pass\n"}, kind=JobType.TEST)

    assert (result.reason, result.exit_code) == (Reason.TESTS_FAILED, 2)
    assert any("No module named 'nowhere'" in case.get("message", "") for case in result.detail["tests"]["cases"])


def test_lint_json(bench: Bench) -> None:
    """What ruff says by itself, field by field, is what the result says."""
    files = example("ruff-app")
    watch = Recorder()
    bench.run(files, command="ruff check --output-format json --no-cache . ; true", watch=watch)
    said = json.loads(watch.text("stdout"))

    issues = bench.run(files, kind=JobType.LINT).detail["lint"]["issues"]

    assert issues == [
        {
            "file": each["filename"].removeprefix("/work/project/"), "line": each["location"]["row"],
            "column": each["location"]["column"], "rule": each["code"], "severity": each["severity"],
            "message": each["message"],
        }
        for each in said
    ]  # fmt: skip
