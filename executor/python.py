"""Pure: a Python project: what it needs, how that is installed, and what builds, tests and checks it.

Whatever a package runs when it is built is off, as the scripts of npm's packages are: the install takes wheels alone.
The project itself is built later, without a network, by a backend that was installed as a wheel.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from executor import poetry, requirements, spec
from executor.requirements import Needs

Manifest = Mapping[str, Any]

VENV = f"{spec.WORK}/venv"
#: Files of ours that an install reads.
REQUIREMENTS, CONSTRAINTS = "requirements.txt", "constraints.txt"
_TOOLS = f"{spec.WORK}/tools"
#: A manifest that is larger, or has longer keys, is nobody's; reading it could take for ever.
MAX_MANIFEST = 200_000
MAX_DOTS = 200
#: What a project calls its packages for tests and checks.
EXTRAS = ("dev", "test", "tests", "testing", "lint")

ENVIRONMENT = {
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_NO_PROGRESS": "1",
    "UV_NO_SYNC": "1",  # `uv run` takes what is installed
    "REQUESTS_CA_BUNDLE": spec.CA_BUNDLE,
    "PIP_CERT": spec.CA_BUNDLE,
    "PYTHONUNBUFFERED": "1",  # or a log of what goes on comes at the end
    "RUFF_CACHE_DIR": f"{spec.HOME}/ruff",
}
_IN_VENV = {"VIRTUAL_ENV": VENV, "UV_PROJECT_ENVIRONMENT": VENV}

_MANIFESTS = {"pyproject.toml", "uv.lock", "poetry.lock", "setup.py", "setup.cfg", "Pipfile", *requirements.FILES}
_PAGE = {"index.html"}
_TEST_FILE = re.compile(r"(?:.*/)?(?:test_[^/]*|[^/]+_test)\.py")
_UNITTEST_FILE = re.compile(r"(?:.*/)?test[^/]*\.py")
_USES_UNITTEST = re.compile(r"^\s*(?:import unittest|from unittest\b)", re.MULTILINE)
_USES_PYTEST = re.compile(r"^\s*(?:import pytest|from pytest\b)|^(?:async )?def test|\bpytest\b", re.MULTILINE)
_TEST_CONFIGS = ("pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml", *requirements.FILES)
_RUFF_FILES = ("ruff.toml", ".ruff.toml")
#: What is wrong whatever the taste: pyflakes, syntax, broken imports and comparisons, bugbear, pylint's errors.
_RULES = "E4,E7,E9,F,B,PLE"


@dataclass(frozen=True, slots=True)
class Install:
    """How a project is installed: what recipes.Plan has under the same names; `tools` are files of ours beside it."""

    install: tuple[str, ...]
    setup: str
    tools: Mapping[str, str]
    environment: Mapping[str, str]
    notes: tuple[str, ...]


def is_python(files: Collection[str]) -> bool:
    """True if a project is Python's: it has a manifest of Python's, or modules and no page, and no package.json."""
    if "package.json" in files:
        return False
    if not _MANIFESTS.isdisjoint(files):
        return True
    return any(path.endswith(".py") for path in files) and _PAGE.isdisjoint(files)


def manifest(files: Mapping[str, str]) -> dict[str, Any]:
    """pyproject.toml as values; {} if there is none. Raises ValueError: it cannot be read; the text says why."""
    text = files.get("pyproject.toml", "").removeprefix("\ufeff")
    if len(text) > MAX_MANIFEST or any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise ValueError(f"pyproject.toml has more than {MAX_MANIFEST:,} characters, or {MAX_DOTS} dots in a line")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"pyproject.toml is not valid TOML: {error}") from error


def install(files: Mapping[str, str], found: Manifest, wanted: Mapping[str, str], *, scripts: bool) -> Install:
    """How to install a project and the request's packages. Raises ValueError, as requirements.of_request()."""
    locked = "uv.lock" in files and "project" in found
    needs = Needs() if locked else _needs(files, found)
    needs.lines += requirements.of_request(wanted)
    needs.lines += _backend(files, found)
    if not scripts and not locked and "setup.py" in files and not (needs.lines and "project" in found):
        needs.notes.append("what setup.py asks for is not installed: that would run it (installScripts)")
    if not locked and not needs.lines and not (scripts and "setup.py" in files):
        return Install((), _setup(files, found, locked=False) and "", {}, ENVIRONMENT, tuple(needs.notes))
    return Install(
        install=_commands(files, found, needs, locked=locked, scripts=scripts),
        setup=_setup(files, found, locked=locked),
        tools={REQUIREMENTS: _text(needs.lines), CONSTRAINTS: _text(needs.constraints)},
        environment={**ENVIRONMENT, **_IN_VENV},
        notes=tuple(needs.notes),
    )


def _needs(files: Mapping[str, str], found: Manifest) -> Needs:
    """What is asked for by a project that uv did not lock."""
    if isinstance(inside(found, "tool", "poetry"), dict) or "poetry.lock" in files:
        return poetry.needs(files, found, EXTRAS)
    needs = requirements.of_files(files)
    needs.lines[:0] = requirements.of_manifest(found, EXTRAS)
    return needs


def _backend(files: Collection[str], found: Manifest) -> list[str]:
    """What builds the project, if it can be built."""
    if not is_buildable(files, found):
        return []
    requires = inside(found, "build-system", "requires")
    return [each for each in requires if isinstance(each, str)] if isinstance(requires, list) else ["setuptools>=61"]


def is_buildable(files: Collection[str], found: Manifest) -> bool:
    """True if there is something that makes a wheel."""
    return not {"build-system", "project"}.isdisjoint(found) or not {"setup.py", "setup.cfg"}.isdisjoint(files)


def _is_package(files: Collection[str], found: Manifest) -> bool:
    """True if the project is to be installed itself, by the rules of uv and Poetry."""
    if inside(found, "tool", "uv", "package") is False or inside(found, "tool", "poetry", "package-mode") is False:
        return False
    return "build-system" in found or "setup.py" in files


def _commands(files: Collection[str], found: Manifest, needs: Needs, *, locked: bool, scripts: bool) -> tuple[str, ...]:
    venv = f"uv venv --quiet --allow-existing --system-site-packages --no-project --python python3 {VENV}"
    # A project's own settings of uv could name packages that are built all the same.
    binary = "" if scripts else " --no-config --only-binary :all:"
    packages = f"uv pip install{binary} -r {_TOOLS}/{REQUIREMENTS} -c {_TOOLS}/{CONSTRAINTS}"
    packages = packages if needs.lines else ""
    if scripts and "setup.py" in files and not _has_dependencies(found):
        packages = " && ".join(filter(None, [packages, "uv pip install -e ."]))
    if not locked:
        return (f"{venv} && {packages}",)
    wished = [*_options("extra", inside(found, "project", "optional-dependencies"))]
    wished += _options("group", found.get("dependency-groups"))
    sync = " ".join(["uv sync --no-install-local", *([] if scripts else ["--no-config", "--no-build"]), *wished])
    tail = f" && {packages}" if packages else ""
    return tuple(f"{venv} && {sync}{option}{tail}" for option in (" --locked", ""))


def _has_dependencies(found: Manifest) -> bool:
    return bool(inside(found, "project", "dependencies"))


def _options(kind: str, known: Any) -> Iterator[str]:
    return (f"--{kind} {name}" for name in EXTRAS if isinstance(known, dict) and name in known)


def _setup(files: Collection[str], found: Manifest, *, locked: bool) -> str:
    """The command that puts the project itself in its environment."""
    if not _is_package(files, found):
        return ""
    if locked:
        wished = [*_options("extra", inside(found, "project", "optional-dependencies"))]
        wished += _options("group", found.get("dependency-groups"))
        return " ".join(["uv sync --frozen --offline --inexact --no-build-isolation", *wished])
    return "uv pip install --offline --no-deps --no-build-isolation -e ."


def inside(value: Any, *names: str) -> Any:
    """What is found by following `names` down through tables; None if there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(lines: Collection[str]) -> str:
    return "".join(f"{' '.join(line.split())}\n" for line in lines)


def builds(files: Collection[str], found: Manifest) -> list[str]:
    """The command that makes the distributions of a project that has any."""
    command = "uv build --offline --no-build-isolation --no-create-gitignore --out-dir dist"
    return [command] if is_buildable(files, found) else []


def tests(files: Mapping[str, str], found: Manifest) -> list[str]:
    """The command of the runner that the tests are written for, if there are any: pytest, or unittest alone."""
    mine = [path for path in files if _TEST_FILE.fullmatch(path) or _UNITTEST_FILE.fullmatch(path)]
    if not mine:
        return []
    config = "".join(files.get(name, "") for name in _TEST_CONFIGS)
    is_pytest = "pytest" in config or any(path.rpartition("/")[2] == "conftest.py" for path in files)
    only_unittest = all(_USES_UNITTEST.search(files[path]) and not _USES_PYTEST.search(files[path]) for path in mine)
    if is_pytest or not only_unittest:
        return ["python -m pytest"]
    folders = {path.split("/")[0] for path in mine if "/" in path}
    apart = [folder for folder in ("tests", "test") if folder in folders and f"{folder}/__init__.py" not in files]
    return [f"python -m unittest discover{f' -s {apart[0]}' if apart else ''}"]


def checks(files: Mapping[str, str], found: Manifest) -> list[str]:
    """ruff, by the project's own rules or by ours, if there is any Python."""
    if not any(path.endswith((".py", ".pyi", ".ipynb")) for path in files):
        return []
    own = inside(found, "tool", "ruff") is not None or any(name in files for name in _RUFF_FILES)
    return [f"ruff check{'' if own else f' --select {shlex.quote(_RULES)}'} ."]
