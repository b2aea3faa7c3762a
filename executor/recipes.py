"""What each job type does: a table, and how a row and a request become a plan of commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from executor import installers
from executor.archive import check_path
from jobs import JobType, Phase, Reason, Request

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One job type.

    `own_command` is the caller's command, sent as the request's `field`; without one, the package's `script` runs.
    `outputs` are the folders that may hold the result, in order.
    """

    phase: Phase
    script: str
    own_command: Callable[[Request], str]
    field: str
    failed: Reason
    outputs: tuple[str, ...] = ()


RECIPES: dict[JobType, Recipe] = {
    JobType.BUILD: Recipe(
        phase=Phase.BUILDING,
        script="build",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.BUILD_FAILED,
        outputs=("dist", "build", "out", ".output"),
    ),
    JobType.TEST: Recipe(
        phase=Phase.TESTING,
        script="test",
        own_command=lambda request: request.test_command or request.command,
        field="testCommand",
        failed=Reason.TESTS_FAILED,
    ),
    JobType.LINT: Recipe(
        phase=Phase.LINTING,
        script="lint",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.LINT_FAILED,
    ),
    JobType.ANALYZE: Recipe(
        phase=Phase.ANALYZING,
        script="lint",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.LINT_FAILED,
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run does: the files to unpack, the commands, where results may be, and remarks for the log.

    `install` is empty if there is nothing to install; of several commands, each is tried only if the one before
    refuses the lockfile.
    """

    files: Mapping[str, str]
    install: tuple[str, ...]
    command: str
    environment: Mapping[str, str]
    phase: Phase
    failed: Reason
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


class Unworkable(Exception):
    """The project cannot be run at all; nothing was started."""

    def __init__(self, reason: Reason, message: str) -> None:
        """`reason` is one of the user's."""
        super().__init__(message)
        self.reason = reason


def plan(request: Request) -> Plan:
    """What to do for a request. Raises Unworkable."""
    recipe = RECIPES[request.type]
    notes: list[str] = []
    files = dict(_accepted(request.files, notes))
    manifest = _manifest(files, request.type)
    changed = merge(manifest, request.dependencies) or "package.json" not in files
    if changed:
        files["package.json"] = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    tool = installers.chosen(files, files)
    locked = installers.has_lockfile(tool, files) and not changed
    return Plan(
        files=files,
        install=tool.install(locked=locked, scripts=request.install_scripts) if _has_packages(manifest) else (),
        command=_command(recipe, request, manifest, tool),
        environment=tool.environment,
        phase=recipe.phase,
        failed=recipe.failed,
        outputs=(*_configured_outputs(files), *recipe.outputs) if recipe.outputs else (),
        notes=tuple(notes),
    )


#: What a project without a package.json is taken to be.
_DEFAULT: Manifest = {"name": "chef-project", "private": True, "type": "module"}
_VITE: Manifest = {
    "scripts": {"dev": "vite", "build": "vite build", "preview": "vite preview"},
    "devDependencies": {"vite": "^8"},
}
_INSTALLED = ("dependencies", "devDependencies", "optionalDependencies")
_KINDS = ("dependencies", "devDependencies", "peerDependencies")


def _manifest(files: Mapping[str, str], job_type: JobType) -> Manifest:
    if "package.json" not in files:
        made: Manifest = json.loads(json.dumps(_DEFAULT | (_VITE if job_type is JobType.BUILD else {})))
        return made
    try:
        manifest = json.loads(files["package.json"].removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Unworkable(Reason.INVALID_PROJECT, f"package.json is not valid JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise Unworkable(Reason.INVALID_PROJECT, "package.json is not a JSON object")
    for name in (*_INSTALLED, "peerDependencies", "scripts"):
        if not isinstance(manifest.get(name, {}), dict):
            raise Unworkable(Reason.INVALID_PROJECT, f"package.json: {name} is not an object")
    return manifest


def merge(manifest: Manifest, wanted: Mapping[str, Mapping[str, str]]) -> bool:
    """Put the request's packages into the manifest, its versions winning; True if that changed anything.

    A package that the manifest has already keeps its place, so that an equal version changes nothing.
    """
    before = json.dumps(manifest)
    for kind in _KINDS:
        places = _INSTALLED if kind in _INSTALLED else (kind,)
        for name, version in wanted.get(kind, {}).items():
            place = next((place for place in places if name in manifest.get(place, {})), kind)
            manifest.setdefault(place, {})[name] = version
    return json.dumps(manifest) != before


def _has_packages(manifest: Manifest) -> bool:
    return any(manifest.get(kind) for kind in (*_INSTALLED, "peerDependencies", "workspaces"))


def _command(recipe: Recipe, request: Request, manifest: Manifest, tool: installers.Tool) -> str:
    if own := recipe.own_command(request).strip():
        return own
    script = manifest.get("scripts", {}).get(recipe.script)
    if isinstance(script, str) and script.strip():
        return f"{tool.name} run {recipe.script}"
    raise Unworkable(
        Reason.COMMAND_NOT_FOUND,
        f"nothing to run: package.json has no script named {recipe.script!r}, and the request has no {recipe.field}",
    )


_OUT_DIR = re.compile(r"""\boutDir['"]?\s*:\s*['"`]([^'"`$]+)['"`]""")
_VITE_CONFIG = re.compile(r"vite\.config\.[cm]?[jt]s")


def _configured_outputs(files: Mapping[str, str]) -> Iterator[str]:
    """Output folders that the project's Vite configuration names in plain text."""
    for path, text in files.items():
        found = _OUT_DIR.search(text) if _VITE_CONFIG.fullmatch(path) else None
        folder = found[1].removeprefix("./").rstrip("/") if found else ""
        try:
            check_path(folder)
        except ValueError:
            continue
        yield folder


#: Options of an .npmrc that only say how node_modules is laid out; any other could send the installer elsewhere.
_NPMRC_OPTIONS = frozenset(
    {"legacy-peer-deps", "strict-peer-deps", "engine-strict", "install-strategy", "prefer-dedupe", "save-exact"}  # npm
    | {"auto-install-peers", "strict-peer-dependencies", "node-linker", "shamefully-hoist", "hoist"}  # pnpm
    | {"hoist-pattern[]", "public-hoist-pattern[]"}
)
_IGNORED = ("node_modules", ".git")


def _accepted(files: Mapping[str, str], notes: list[str]) -> Iterator[tuple[str, str]]:
    """The files without what must come from elsewhere; `notes` says what was left out."""
    ignored = dict.fromkeys(_IGNORED, 0)
    for path, text in files.items():
        parts = PurePosixPath(path).parts
        if folder := next((name for name in _IGNORED if name in parts), None):
            ignored[folder] += 1
        elif parts and parts[-1] == ".npmrc":
            yield path, _harmless(path, text, notes)
        else:
            yield path, text
    notes += [f"{count} files in {folder} are ignored" for folder, count in ignored.items() if count]


def _harmless(path: str, npmrc: str, notes: list[str]) -> str:
    """An .npmrc without the options that could send the installer elsewhere."""
    options = [line for line in npmrc.splitlines() if "=" in line and line.lstrip()[0] not in "#;"]
    kept = [line for line in options if line.split("=")[0].strip() in _NPMRC_OPTIONS]
    if dropped := [line.split("=")[0].strip() for line in options if line not in kept]:
        notes.append(f"{path}: ignored {', '.join(dropped)}")
    return "".join(f"{line}\n" for line in kept)
