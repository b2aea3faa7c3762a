"""What each job type does: a table, and how its rows and a request become a plan of commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from executor import analysis, checks, commands, detect, installers, python, spec
from executor.archive import check_path
from executor.commands import Project, Report
from executor.images import NODE, PYTHON
from jobs import JobType, Phase, Reason, Request

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One job type.

    `own_command` is the caller's command, sent as the request's `field`; without one, the package's `script` runs.
    `outputs` are the folders that may hold the result, in order. `reports` is the kind of report that its tools write,
    `default` what runs if neither command nor script does, `python` what runs for a Python project.
    """

    phase: Phase
    script: str
    own_command: Callable[[Request], str]
    field: str
    failed: Reason
    outputs: tuple[str, ...] = ()
    reports: str = ""
    default: Callable[[Project], list[str]] = lambda project: []
    python: Callable[[Mapping[str, str], Manifest], list[str]] = python.checks


def _tests(project: Project) -> list[str]:
    """The runner that is installed, or Node's own, if there are tests for it."""
    runner = detect.test_runner(project.files, project.manifest)
    return [{"vitest": "vitest run", "node": "node --test"}.get(runner, runner)] if runner else []


def _bundler(project: Project) -> list[str]:
    return ["vite build"] if "vite" in detect.packages(project.manifest) else []


RECIPES: dict[JobType, Recipe] = {
    JobType.BUILD: Recipe(
        phase=Phase.BUILDING,
        script="build",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.BUILD_FAILED,
        outputs=("dist", "build", "out", ".output"),
        python=python.builds,
    ),
    JobType.TEST: Recipe(
        phase=Phase.TESTING,
        script="test",
        own_command=lambda request: request.test_command or request.command,
        field="testCommand",
        failed=Reason.TESTS_FAILED,
        reports="tests",
        default=_tests,
        python=python.tests,
    ),
    JobType.LINT: Recipe(
        phase=Phase.LINTING,
        script="lint",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.LINT_FAILED,
        reports="lint",
        default=checks.wanted,
    ),
    JobType.ANALYZE: Recipe(
        phase=Phase.ANALYZING,
        script="build",
        own_command=lambda request: request.command,
        field="command",
        failed=Reason.LINT_FAILED,
        reports="analysis",
        default=_bundler,
    ),
}


@dataclass(frozen=True, slots=True)
class Work:
    """What a plan does for one job type: a command, in its phase, and what a failure of it is called.

    `outputs` are folders that may hold the result, in order. `reports` are what the command writes outside of the
    project; `facts` are part of the result. `fail_on` is the least severe finding of a linter that is a failure.
    `missing` says why there is no command, if there is none. `fault` looks at what a command that ended well led to,
    and says why the job failed all the same, if it did.
    """

    type: JobType
    command: str
    phase: Phase
    failed: Reason
    outputs: tuple[str, ...] = ()
    reports: tuple[Report, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    fail_on: str = "error"
    missing: str = ""
    fault: Callable[[Mapping[str, Any]], tuple[Reason, str] | None] = lambda detail: None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run does: files to unpack, the image, what is installed, then each work; remarks for the log.

    `install` is empty if there is nothing to install; of several commands, each is tried only if the one before
    refuses the lockfile. `install_scripts`: packages' own scripts run then. `setup` makes the project itself ready to
    be used: its own code, so it runs without a network. `programs` is where the installed ones are, `tools` are files
    of ours that the commands need. `is_pipeline`: the result has one for each work; `goes_on`: even after a failure.
    `globs` choose the files that are kept in the end, also of a run that failed; then no work has outputs of its own.
    """

    files: Mapping[str, str]
    image: str
    install: tuple[str, ...]
    environment: Mapping[str, str]
    works: tuple[Work, ...]
    setup: str = ""
    install_scripts: bool = False
    programs: str = f"{spec.PROJECT}/node_modules/.bin"
    tools: Mapping[str, str] = field(default_factory=lambda: commands.TOOLS)
    is_pipeline: bool = False
    goes_on: bool = False
    notes: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every folder that may hold a result; the project itself where globs choose."""
        return (".",) if self.globs else tuple(folder for work in self.works for folder in work.outputs)

    def work_environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Variables of a work's command: the plan's, where programs are, and the job's `own`, which win."""
        path = f"{self.programs}:{self.environment.get('PATH', spec.PATH)}"
        return {**self.environment, "PATH": path, **own}


class Unworkable(Exception):
    """The project cannot be run at all; nothing was started."""

    def __init__(self, reason: Reason, message: str) -> None:
        """`reason` is one of the user's."""
        super().__init__(message)
        self.reason = reason


def plan(request: Request) -> Plan:
    """What to do for a request. Raises Unworkable."""
    notes: list[str] = []
    if "package.json" in request.binary:
        raise Unworkable(Reason.INVALID_PROJECT, "package.json is not UTF-8")
    files = dict(_accepted(request.files, notes))
    language = request.language or ("python" if python.is_python(files) else "node")
    made = _of_python(request, files, notes) if language == "python" else _of_node(request, files, notes)
    return replace(made, is_pipeline=bool(request.steps), goes_on=request.on_failure == "continue", notes=tuple(notes))


def _types(request: Request) -> tuple[JobType, ...]:
    return request.steps or (request.type,)


def _of_node(request: Request, files: dict[str, str], notes: list[str]) -> Plan:
    manifest = _manifest(files, _types(request))
    changed = merge(manifest, request.dependencies) or "package.json" not in files
    if changed:
        files["package.json"] = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    tool = installers.chosen(files, files)
    locked = installers.has_lockfile(tool, files) and not changed
    project = Project(files, manifest)
    installs = _has_packages(manifest)
    install = tool.install(locked=locked, scripts=request.install_scripts) if installs else ()

    def texts(recipe: Recipe) -> list[str]:
        script = _script(recipe, project, tool)
        return [script] if script else recipe.default(project)

    # Yarn's own way to store packages has no folder of programs; only its scripts find them.
    reported = tool is not installers.YARN_BERRY
    return Plan(
        files=files,
        image=NODE,
        install=analysis.looked_up(install) if JobType.ANALYZE in _types(request) else install,
        install_scripts=installs and request.install_scripts,
        environment=tool.environment,
        works=_works(request, project, texts, notes, reported=reported),
        globs=request.artifacts,
    )


def _of_python(request: Request, files: dict[str, str], notes: list[str]) -> Plan:
    packages = {name: version for kind in _KINDS for name, version in request.dependencies.get(kind, {}).items()}
    try:
        manifest = python.manifest(files)
        made = python.install(files, manifest, packages, scripts=request.install_scripts)
    except ValueError as error:
        raise Unworkable(Reason.INVALID_PROJECT, str(error)) from error
    notes += made.notes
    return Plan(
        files=files,
        image=PYTHON,
        install=made.install,
        setup=made.setup,
        install_scripts=bool(made.install) and request.install_scripts,
        environment=made.environment,
        programs=f"{python.VENV}/bin",
        tools={**commands.TOOLS, **made.tools},
        works=_works(request, Project(files, {}), lambda recipe: recipe.python(files, manifest), notes, is_node=False),
        globs=request.artifacts,
    )


#: What a project without a package.json is taken to be.
_DEFAULT: Manifest = {"name": "chef-project", "private": True, "type": "module"}
_VITE: Manifest = {
    "scripts": {"dev": "vite", "build": "vite build", "preview": "vite preview"},
    "devDependencies": {"vite": "^8"},
}
_INSTALLED = ("dependencies", "devDependencies", "optionalDependencies")
_KINDS = ("dependencies", "devDependencies", "peerDependencies")


def _manifest(files: Mapping[str, str], types: Collection[JobType]) -> Manifest:
    if "package.json" not in files:
        made: Manifest = json.loads(json.dumps(_DEFAULT | (_VITE if JobType.BUILD in types else {})))
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


#: What `npm init` writes for want of a test.
_NO_TEST = re.compile(r'echo "Error: no test specified" && exit 1')
#: Needs a deployment and its key, which no job has.
_NEEDS_DEPLOYMENT = re.compile(r"\bconvex (?:dev|deploy|codegen)\b")


#: Between the numbers of the reports of two works.
_REPORTS_APART = 100


def _works(
    request: Request,
    project: Project,
    texts: Callable[[Recipe], list[str]],
    notes: list[str],
    *,
    reported: bool = True,
    is_node: bool = True,
) -> tuple[Work, ...]:
    """What to do for each type of a request; `texts` are the commands of a project itself. Raises Unworkable."""
    made = []
    for at, job_type in enumerate(_types(request)):
        recipe = RECIPES[job_type]
        own = recipe.own_command(_asked(job_type, request)).strip()
        wanted = [own] if own else texts(recipe)
        analyzes = recipe.reports == "analysis" and is_node
        missing = "" if wanted or analyzes else _nothing(recipe, is_node)
        if missing and not request.steps:
            raise Unworkable(Reason.COMMAND_NOT_FOUND, missing)
        if analyzes:
            folders = (*_configured_outputs(project.files), *RECIPES[JobType.BUILD].outputs)
            installs = _has_packages(dict(project.manifest))
            command = analysis.planned(project, "".join(wanted), folders, installs=installs)
        else:
            kind = "lint" if recipe.reports == "analysis" else recipe.reports  # of a Python project: what ruff finds
            command = commands.all_of(wanted, kind if reported else "", project, first=at * _REPORTS_APART)
        made.append(
            Work(
                type=job_type,
                command=command.text,
                phase=recipe.phase,
                failed=recipe.failed,
                outputs=_outputs(recipe, request, project.files),
                reports=command.reports,
                facts=_facts(recipe, request, project, notes),
                fail_on=request.fail_on,
                missing=missing,
            )
        )
    return tuple(made)


def _asked(job_type: JobType, request: Request) -> Request:
    """The request as one of its steps sees it: `command` is the build's."""
    mine = job_type is JobType.BUILD or not request.steps
    return request if mine else replace(request, command="")


def _script(recipe: Recipe, project: Project, tool: installers.Tool) -> str:
    """The call of the package's script; "" if it has none that can do anything here."""
    script = project.scripts.get(recipe.script)
    if not isinstance(script, str) or not script.strip() or _NO_TEST.fullmatch(script.strip()):
        return ""
    if recipe.default(project) and _NEEDS_DEPLOYMENT.search(script):
        return ""
    return f"{tool.name} run {recipe.script}"


def _nothing(recipe: Recipe, is_node: bool) -> str:
    if not is_node:
        what = {
            "tests": "no tests: there is no test_*.py or *_test.py",
            "lint": "nothing to lint: there is no Python",
        }.get(recipe.reports, "nothing to build: there is no pyproject.toml with a project, and no setup.py")
        return f"{what}, and the request has no {recipe.field}"
    missing = f"package.json has no script named {recipe.script!r}, and the request has no {recipe.field}"
    others = {
        "tests": "no tests: {}; nor are there tests for Vitest, Jest, Mocha or node:test",
        "lint": "nothing to lint: {}; nor is there a configured ESLint, Biome or oxlint, a tsconfig.json with the"
        " package typescript, or any source in JavaScript or TypeScript",
    }
    return others.get(recipe.reports, "nothing to run: {}").format(missing)


def _facts(recipe: Recipe, request: Request, project: Project, notes: list[str]) -> dict[str, Any]:
    """What the result of a build says of the project."""
    if not recipe.outputs:
        return {}
    mode = detect.mode(request.command or str(project.scripts.get(recipe.script)))
    missing = detect.missing_env(project.files, project.manifest, request.env, mode)
    notes += [f"{name} is not set, so it is undefined in the build: add it to env" for name in missing]
    return {**detect.framework(project.manifest), **({"missingEnv": list(missing)} if missing else {})}


def _outputs(recipe: Recipe, request: Request, files: Mapping[str, str]) -> tuple[str, ...]:
    """The folders that may hold the result, in order."""
    is_looked_for = recipe.outputs and not request.artifacts
    return (*_configured_outputs(files), *recipe.outputs) if is_looked_for else ()


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
_IGNORED = ("node_modules", ".venv", "__pycache__", ".git")


def _accepted(files: Mapping[str, str], notes: list[str]) -> Iterator[tuple[str, str]]:
    """The files without what must come from elsewhere; `notes` says what was left out."""
    ignored = dict.fromkeys(_IGNORED, 0)
    for path, text in files.items():
        parts = PurePosixPath(path).parts
        if folder := next((name for name in _IGNORED if name in parts), None):
            ignored[folder] += 1
        elif parts and parts[-1] == ".npmrc":
            yield path, _harmless(path, text, notes)
        elif parts and parts[-1] == ".yarnrc.yml":
            yield path, _harmless_yaml(path, text, notes)
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


#: Settings of Yarn that say how packages are laid out, or name a registry, which the proxy allows or does not. Others
#: load code of the project's into the install (plugins, yarnPath), or lead it elsewhere.
_YARN_SETTINGS = frozenset(
    {"nodeLinker", "nmMode", "nmHoistingLimits", "nmSelfReferences", "pnpMode", "pnpFallbackMode", "pnpIgnorePatterns"}
    | {"packageExtensions", "supportedArchitectures", "logFilters", "compressionLevel", "cacheMigrationMode"}
    | {"defaultSemverRangePrefix", "preferInteractive", "npmRegistryServer", "npmScopes", "enableTelemetry"}
)
_YAML_KEY = re.compile(r"([A-Za-z]+):(?:\s.*)?")


def _harmless_yaml(path: str, yaml: str, notes: list[str]) -> str:
    """A .yarnrc.yml of the plain form `setting:` at the beginning of lines, without the settings that may do harm."""
    kept, dropped, keeping = [], dict[str, None](), False
    for line in yaml.splitlines():
        if line[:1] not in {" ", "#", ""}:
            found = _YAML_KEY.fullmatch(line)
            keeping = bool(found and found[1] in _YARN_SETTINGS)
            if not keeping:
                dropped[found[1] if found else line[:20]] = None
        if keeping:
            kept.append(line)
    if dropped:
        notes.append(f"{path}: ignored {', '.join(dropped)}")
    return "".join(f"{line}\n" for line in kept)
