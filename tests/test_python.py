"""From a Python project to what installs, builds, tests and checks it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from executor import poetry, python, requirements
from executor.images import NODE, PYTHON
from executor.recipes import Plan, Unworkable, plan
from jobs import JobType, Reason, Request

VENV = "uv venv --quiet --allow-existing --system-site-packages --no-project --python python3 /work/venv"
PACKAGES = (
    "uv pip install --no-config --only-binary :all: -r /work/tools/requirements.txt -c /work/tools/constraints.txt"
)
PROJECT = '[project]\nname = "thing"\ndependencies = ["idna>=3", "six ; python_version < \'3\'"]\n'
BUILD = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'


def made(files: dict[str, str], job_type: JobType = JobType.TEST, **fields: Any) -> Plan:
    return plan(Request(job_type, {"test_a.py": "", **files}, **fields))


def needed(files: dict[str, str], **fields: Any) -> list[str]:
    return made(files, **fields).tools["requirements.txt"].splitlines()


@pytest.mark.parametrize(
    ("files", "image"),
    [
        ({"requirements.txt": ""}, PYTHON),
        ({"pyproject.toml": "", "index.html": ""}, PYTHON),
        ({"main.py": ""}, PYTHON),
        ({"main.py": "", "index.html": ""}, NODE),
        ({"package.json": "{}", "requirements.txt": ""}, NODE),
        ({"main.js": ""}, NODE),
    ],
)
def test_language(files: dict[str, str], image: str) -> None:
    """A project is Python's if it has a manifest of Python's or modules and no page, and no package.json."""
    assert plan(Request(JobType.BUILD, files, command="make")).image == image


def test_language_as_asked() -> None:
    """What the request says goes before what the files tell."""
    files = {"package.json": "{}", "main.py": ""}

    assert plan(Request(JobType.BUILD, files, command="make", language="python")).image == PYTHON
    assert plan(Request(JobType.BUILD, {"main.py": ""}, command="make", language="node")).image == NODE


def test_nothing_to_install() -> None:
    """Modules alone run on the Python of the image."""
    found = made({"a.py": ""})

    assert (found.install, found.setup, "VIRTUAL_ENV" in found.environment) == ((), "", False)


def test_requirements() -> None:
    """Requirements are read with the files that they name; the project itself and odd options are left out."""
    files = {
        "requirements.txt": "-r sub/more.txt\n--constraint=pins.txt\n-e .[dev]\n./\n# no\nidna>=3 # names\n--pre\n-f x",
        "sub/more.txt": "six==1 \\\n   --hash=sha256:0\n-r ../requirements.txt\n-r gone.txt\n",
        "pins.txt": "idna==3.6\r\n",
        "dev-requirements.txt": "pytest\n",
    }

    found = made(files)

    assert found.install == (f"{VENV} && {PACKAGES}",)
    assert found.tools["requirements.txt"] == "six==1 --hash=sha256:0\nidna>=3\n--pre\npytest\n"
    assert found.tools["constraints.txt"] == "idna==3.6\n"
    assert found.notes == ("sub/more.txt: there is no sub/gone.txt", "requirements.txt: ignored -f")
    assert found.environment["VIRTUAL_ENV"] == found.programs.removesuffix("/bin") == "/work/venv"


def test_manifest() -> None:
    """pyproject.toml with what it calls dev and test, and what builds it; then the project, without a network."""
    groups = '[dependency-groups]\ndev = ["pytest", {include-group = "more"}]\nmore = ["rich"]\nother = ["no"]\n'
    extras = '[project.optional-dependencies]\ntest = ["thing[x]", "attrs"]\n'

    found = made({"pyproject.toml": PROJECT + BUILD + extras + groups})

    lines = found.tools["requirements.txt"].splitlines()
    assert lines == ["idna>=3", "six ; python_version < '3'", "pytest", "rich", "attrs", "hatchling"]
    assert found.setup == "uv pip install --offline --no-deps --no-build-isolation -e ."


@pytest.mark.parametrize(
    ("text", "setup"),
    [
        (PROJECT, ""),
        (PROJECT + BUILD + "[tool.uv]\npackage = false\n", ""),
        (PROJECT + BUILD + "[tool.poetry]\npackage-mode = false\n", ""),
    ],
)
def test_not_a_package(text: str, setup: str) -> None:
    """A project that is no package is not installed itself."""
    assert made({"pyproject.toml": text}).setup == setup


def test_uv_lock() -> None:
    """A lock is taken as it is, or else updated; local packages come with the project, without a network."""
    text = PROJECT + BUILD + '[dependency-groups]\ntest = []\n[project.optional-dependencies]\ndev = ["x"]\n'

    found = made({"pyproject.toml": text, "uv.lock": "version = 1\n"})

    sync = "uv sync --no-install-local --no-config --no-build --extra dev --group test"
    assert found.install == (f"{VENV} && {sync} --locked && {PACKAGES}", f"{VENV} && {sync} && {PACKAGES}")
    assert found.tools["requirements.txt"] == "hatchling\n"
    assert found.setup == "uv sync --frozen --offline --inexact --no-build-isolation --extra dev --group test"


def test_scripts() -> None:
    """What runs code of packages is off unless the request wants it; a setup.py is such code."""
    setup = {"setup.py": "setup(install_requires=['x'])"}

    assert "--only-binary" not in made({"requirements.txt": "x"}, install_scripts=True).install[0]
    assert "--no-build" not in made({"pyproject.toml": PROJECT, "uv.lock": ""}, install_scripts=True).install[0]
    assert made(setup).notes == ("what setup.py asks for is not installed: that would run it (installScripts)",)
    assert made(setup, install_scripts=True).install[0].endswith("&& uv pip install -e .")


VERSIONS = [
    ("1.2.3", "x==1.2.3"), ("v2", "x==2"), ("*", "x"), ("latest", "x"), ("", "x"), (">=1.2 <2", "x>=1.2,<2"),
    (">= 1.2, != 1.5", "x>=1.2,!=1.5"), ("~=1.2", "x~=1.2"), ("1.2.3rc1", "x==1.2.3rc1"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "line"), VERSIONS)
def test_packages_of_the_request(version: str, line: str) -> None:
    """Versions are exact, compared, or any."""
    assert needed({}, dependencies={"dependencies": {"x": version}}) == [line]


@pytest.mark.parametrize("version", ["^1.2", "~1.2", "1.x || 2", "npm:y@1", "-r /etc/passwd", ">=1\n--index-url=x"])
def test_versions_of_npm(version: str) -> None:
    """A version that is not Python's is named before anything starts."""
    with pytest.raises(Unworkable, match=r"dependencies: x .* is not a version of Python's") as unworkable:
        made({}, dependencies={"dependencies": {"x": version}})

    assert unworkable.value.reason is Reason.INVALID_PROJECT


POETRY = """
[tool.poetry.dependencies]
python = ">=3.9,<4"
idna = "^3.4"
rich = {version = "~13.7", extras = ["jupyter"], markers = "os_name == 'posix'", python = "^3.9"}
numpy = [{version = "1.26.4", python = "<3.12"}, {version = ">=2", python = ">=3.12"}]
later = {version = "*", optional = true}
mine = {path = "libs/mine"}
[tool.poetry.group.dev.dependencies]
pytest = "*"
[tool.poetry.group.docs]
optional = true
[tool.poetry.group.docs.dependencies]
sphinx = "*"
"""
LOCK = """
[[package]]
name = "idna"
version = "3.6"
python-versions = ">=3.5"
files = [{file = "a", hash = "sha256:%s"}, {file = "b", hash = "md5:0"}]

[[package]]
name = "numpy"
version = "1.26.4"
python-versions = ">=3.9"
markers = "python_version < \\"3.12\\""
files = []

[[package]]
name = "numpy"
version = "2.0.0"
python-versions = ">=3.9"
markers = "python_version >= \\"3.12\\""
files = []

[[package]]
name = "from-git"
version = "1"
[package.source]
type = "git"
""" % ("a" * 64)


def test_poetry() -> None:
    """Poetry's dependencies become Python's own, and its lock the versions and hashes that are taken."""
    found = made({"pyproject.toml": POETRY, "poetry.lock": LOCK})

    assert found.tools["requirements.txt"].splitlines() == [
        "idna>=3.4,<4",
        "rich[jupyter]>=13.7,<13.8"
        " ; (os_name == 'posix') and python_full_version >= '3.9' and python_full_version < '4'",
        "numpy==1.26.4 ; python_full_version < '3.12'",
        "numpy>=2 ; python_full_version >= '3.12'",
        "pytest",
    ]
    python_versions = "python_full_version >= '3.9'"
    assert found.tools["constraints.txt"].splitlines() == [
        f"idna==3.6 --hash=sha256:{'a' * 64}",
        f"numpy==1.26.4 ; (python_version < \"3.12\") and {python_versions}",
        f"numpy==2.0.0 ; (python_version >= \"3.12\") and {python_versions}",
    ]  # fmt: skip
    assert "there is no poetry.lock, so the newest versions are taken" in made({"pyproject.toml": POETRY}).notes


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("^1.2.3", ">=1.2.3,<2"), ("^0.2.3", ">=0.2.3,<0.3"), ("^0.0.3", ">=0.0.3,<0.0.4"), ("^0", ">=0,<1"),
        ("~1.2.3", ">=1.2.3,<1.3"), ("~1", ">=1,<2"), ("1.2", "==1.2"), ("1.2.*", "==1.2.*"), ("*", ""),
        (">=1, <2", ">=1,<2"), ("~=1.4", "~=1.4"), ("^1 || ^2", ""), ("^", ""),
    ],
)  # fmt: skip
def test_ranges_of_poetry(version: str, line: str) -> None:
    """A caret lets the leftmost number that is not 0 stand, a tilde the first two."""
    assert poetry.ranged(version) == line


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"test_a.py": "def test_a(): pass"}, "python -m pytest"),
        ({"test_a.py": "import unittest"}, "python -m unittest discover"),
        ({"tests/test_a.py": "from unittest import TestCase", "tests/__init__.py": ""}, "python -m unittest discover"),
        ({"tests/test_a.py": "import unittest"}, "python -m unittest discover -s tests"),
        ({"test_a.py": "import unittest", "requirements-dev.txt": "pytest"}, "python -m pytest"),
        ({"test_a.py": "import unittest", "conftest.py": ""}, "python -m pytest"),
        ({"test_a.py": "import unittest\nimport pytest"}, "python -m pytest"),
        ({"src/a_test.py": "import unittest\ndef test_b(): pass"}, "python -m pytest"),
    ],
)
def test_runner(files: dict[str, str], command: str) -> None:
    """unittest runs what is written for it alone, pytest everything else."""
    assert python.tests(files, {}) == [command]


@pytest.mark.parametrize(
    ("files", "rules"),
    [
        ({}, " --select E4,E7,E9,F,B,PLE"),
        ({"ruff.toml": ""}, ""),
        ({".ruff.toml": ""}, ""),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 99\n"}, ""),
        ({"pyproject.toml": PROJECT}, " --select E4,E7,E9,F,B,PLE"),
    ],
)
def test_checks(files: dict[str, str], rules: str) -> None:
    """A project's own rules go before ours."""
    assert made(files, JobType.LINT).works[0].command.startswith(f"ruff check{rules} . --output-format json")


@pytest.mark.parametrize(
    ("files", "job_type", "message"),
    [
        ({"a.py": ""}, JobType.BUILD, "no pyproject.toml with a project, and no setup.py.* no command"),
        ({"a.py": ""}, JobType.TEST, r"no test_\*\.py .* no testCommand"),
        ({"requirements.txt": ""}, JobType.LINT, "no Python.* no command"),
    ],
)
def test_nothing_to_run(files: dict[str, str], job_type: JobType, message: str) -> None:
    """A Python project that gives a type nothing to do says what is missing."""
    with pytest.raises(Unworkable, match=message) as unworkable:
        plan(Request(job_type, files))

    assert unworkable.value.reason is Reason.COMMAND_NOT_FOUND


def test_build() -> None:
    """A wheel is built by what was installed for that, setuptools if the project does not say."""
    (work,) = made({"pyproject.toml": PROJECT}, JobType.BUILD).works

    assert work.command == "uv build --offline --no-build-isolation --no-create-gitignore --out-dir dist"
    assert needed({"pyproject.toml": PROJECT})[-1] == "setuptools>=61"


@pytest.mark.parametrize(
    "text",
    ["[", "a = ", "[[" * 5_000, "a.b" * 50_000, "." * 300, "x = " + "[" * 100_000, "[a]\n" * 2, "\ud800"],
)
def test_broken_manifest(text: str) -> None:
    """A pyproject.toml that is none, or that would take for ever to read, makes the project invalid at once."""
    began = time.monotonic()
    with pytest.raises(Unworkable, match=r"pyproject\.toml") as unworkable:
        made({"pyproject.toml": text})

    assert unworkable.value.reason is Reason.INVALID_PROJECT
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "project = 1", "[project]\ndependencies = 'x'", "[project]\ndependencies = [1, '', '--index-url=x']",
        "tool = []", "[tool]\npoetry = 1", "[tool.poetry]\ndependencies = 1\ngroup = 2",
        "[tool.poetry.dependencies]\nx = [1, {}]",
        "build-system = 1", "[build-system]\nrequires = 1", "dependency-groups = 1",
        "[dependency-groups]\ndev = [1, {}]",
        "[dependency-groups]\ndev = [{include-group = 'dev'}]", "[project]\noptional-dependencies = 3",
    ],
)  # fmt: skip
def test_odd_manifest(text: str) -> None:
    """Values of other kinds than are meant ask for nothing."""
    found = made({"pyproject.toml": text})

    assert "index-url" not in found.tools.get("requirements.txt", "")


@pytest.mark.parametrize(
    "lock", ["[", "package = 1", "package = [1, {}]", "[[package]]\nname = 'a b'\nversion = 'x;y'"]
)
def test_odd_lock(lock: str) -> None:
    """A lock of something else gives no constraint; one that is no TOML makes the project invalid."""
    files = {"pyproject.toml": POETRY, "poetry.lock": lock}
    if lock == "[":
        with pytest.raises(Unworkable, match=r"poetry\.lock"):
            made(files)
    else:
        assert made(files).tools["constraints.txt"] == ""


def test_endless_requirements() -> None:
    """Files that name each other, and very many lines, come to an end."""
    files = {f"r{n}.txt": f"-r r{n + 1}.txt\nx\n" for n in range(500)}
    files["requirements.txt"] = "-r r0.txt\n" + "x\n" * 50_000

    assert len(requirements.of_files(files).lines) <= requirements.MAX_LINES
