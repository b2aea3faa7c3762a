"""Pure: a command of a project's, rewritten so that the tools in it also write reports outside of the project.

Only flags are added, and watch modes taken out; scripts of the package are put in place of the calls to them, up to
the tool; Python's test runners are called through coverage. A command that is not plainly a list of programs is left
as it is.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor import detect, spec

REPORTS = f"{spec.WORK}/reports"
#: Files of ours that a command may name.
TOOLS = {
    name: (Path(__file__).parent / "tools" / name).read_text()
    for name in (
        "mocha.cjs",
        "covered.sh",
        "oxlint.json",
        "oxlint.ignore",
        "analyze.mjs",
        "bundle.mjs",
        "files.mjs",
        "packages.mjs",
        "walk.mjs",
    )
}
MOCHA_REPORTER = f"{spec.WORK}/tools/mocha.cjs"
COVERED = f"sh {spec.WORK}/tools/covered.sh"
MAX_DEPTH = 4
MAX_PROGRAMS = 40
MAX_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Report:
    """A file that a command is to write: its path below the folder of reports, its format, and the tool."""

    path: str
    format: str
    tool: str


@dataclass(frozen=True, slots=True)
class Instrumented:
    """A command, and what it writes."""

    text: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """What flags depend on."""

    files: Mapping[str, str]
    manifest: Mapping[str, Any]

    @property
    def scripts(self) -> Mapping[str, Any]:
        """The package's scripts."""
        found: Mapping[str, Any] = self.manifest.get("scripts", {})
        return found


@dataclass(frozen=True, slots=True)
class _Added:
    """What one tool is given: flags (at the end, or directly after the word `after`), and the reports that come.

    `instead` is (pattern, template): what is put in place of the call of a program.
    """

    flags: str
    formats: Mapping[str, str]
    after: str = ""
    instead: tuple[re.Pattern[str], str] | None = None


def instrumented(text: str, kind: str, project: Project, first: int = 0) -> Instrumented | None:
    """`text` with reports of a kind (tests, lint, bundle) turned on; None if no tool of that kind is to be seen in it.

    Reports are numbered from `first`, by the program that writes them.
    """
    made: list[str] = []
    reports: list[Report] = []
    is_changed = False
    for at, segment in enumerate(_expanded(text, project.scripts, 0) or (), first):
        name, added = _added(segment, kind, project, f"{REPORTS}/{at}")
        made.append(_with(segment, added) if added else segment)
        is_changed |= added is not None
        reports += [Report(f"{at}{end}", each, name) for end, each in (added.formats if added else {}).items()]
    return Instrumented(" && ".join(made), tuple(reports)) if is_changed else None


def all_of(texts: Sequence[str], kind: str, project: Project, first: int = 0) -> Instrumented:
    """A command that runs all of several, whatever becomes of the others, and fails if one does; with reports.

    Without any there is none.
    """
    if not texts:
        return Instrumented("", ())
    made = [instrumented(text, kind, project, at) or Instrumented(text, ()) for at, text in enumerate(texts, first)]
    if len(made) == 1:
        return made[0]
    joined = " ; ".join(["code=0", *(f"{each.text} || code=$?" for each in made), "exit $code"])
    return Instrumented(joined, tuple(report for each in made for report in each.reports))


_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"")
_OPERATORS = re.compile(r"[|;<>()`\n#]|(?<!&)&(?!&)")
_AND = re.compile(r"\s*&&\s*")
#: A call of a script; what npm, and others without `run`, take for their own command is none.
_CALL = re.compile(
    r"(?:(?:npm|pnpm|yarn|bun) run(?:-script)?|npm(?= test\b)|(?:pnpm|yarn)(?! (?:exec|dlx|install|add|i)\b))"
    r" (?:(?:-s|--silent) )?([\w:.-]+)((?: -- .*| -.*)?)"
)
_SHORT = {"npm t": "npm test", "npm tst": "npm test"}
_WATCH = re.compile(r"\s--(?:watch(?:-?all)?|ui|open)(?:=true)?(?=\s|$)", re.IGNORECASE)


def _expanded(text: str, scripts: Mapping[str, Any], depth: int) -> list[str] | None:
    """The programs that `text` runs one after the other, scripts put in for calls; None if it is more than that."""
    if depth > MAX_DEPTH or len(text) > MAX_CHARS or _OPERATORS.search(_QUOTED.sub("", text)):
        return None
    found: list[str] = []
    for segment in filter(None, _AND.split(text.strip())):
        if not _words(segment):
            return None
        called = _CALL.fullmatch(_SHORT.get(segment, segment))
        script = scripts.get(called[1]) if called else None
        inner = _expanded(_with_neighbours(called[1], scripts), scripts, depth + 1) if called and script else [segment]
        if not inner or len(found) + len(inner) > MAX_PROGRAMS:
            return None
        if called and script and called[2]:
            inner[-1] += called[2].replace(" -- ", " ", 1)
        found += inner
    return found


def _with_neighbours(name: str, scripts: Mapping[str, Any]) -> str:
    """A script between those that a package manager runs before and after it."""
    found = (scripts.get(each) for each in (f"pre{name}", name, f"post{name}"))
    return " && ".join(each for each in found if isinstance(each, str) and each.strip())


def _words(segment: str) -> list[str]:
    try:
        return shlex.split(segment)
    except ValueError:
        return []


_BEFORE = re.compile(
    r"-.*|uv|poetry|python(?:3(?:\.\d+)?)?|[A-Za-z_]\w*=.*|npx|pnpx|bunx|exec|dlx|x|run|--|npm|pnpm|yarn|bun|cross-env|cross-env-shell|env|c8|nyc|dotenv|node"
)


def _added(segment: str, kind: str, project: Project, at: str) -> tuple[str, _Added | None]:
    """(tool, what it is given) for the first tool of the kind in a segment, if only wrappers stand before it."""
    words = _words(segment)
    for place, word in enumerate(words):
        name = _program(word, words[place + 1 :])
        if name in _TOOLS[kind]:
            return name, _TOOLS[kind][name](segment, words[place + 1 :], project, at)
        if not _BEFORE.fullmatch(word):
            break
    return "", None


def _program(word: str, following: list[str]) -> str:
    """The program that a word calls, without folder and ending; `bun`, `node` and `tsx` only as test runners."""
    name = re.sub(r"\.[cm]?js$", "", posixpath.basename(word))
    if name in {"node", "tsx"}:
        return "node" if "--test" in following else ""
    if name == "bun":
        return "bun" if following[:1] == ["test"] else ""
    return name


def _with(segment: str, added: _Added) -> str:
    plain = _WATCH.sub("", segment)
    if added.instead:
        plain = added.instead[0].sub(added.instead[1], plain, count=1)
    if added.after:
        return re.sub(rf"(?<=\s){re.escape(added.after)}(?=\s|$)", f"{added.after} {added.flags}", plain, count=1)
    return f"{plain} {added.flags}"


def _vitest(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    if following[:1] and following[0] in {"bench", "list", "init"}:
        return None
    flags = f"--run --reporter=default --reporter=json --outputFile.json={at}-vitest.json"
    if detect.major(detect.packages(project.manifest).get("vitest", "")) >= 2:
        flags += " --includeTaskLocation"
    reports = {"-vitest.json": "vitest"}
    if _covers(segment, project, "vitest", ("@vitest/coverage-v8", "@vitest/coverage-istanbul")):
        enabled = "" if "--coverage" in segment else " --coverage.enabled"
        flags += f"{enabled} --coverage.reporter=text --coverage.reporter=json-summary --coverage.reportOnFailure"
        flags += f" --coverage.reportsDirectory={at}-coverage"
        reports["-coverage/coverage-summary.json"] = "istanbul"
    return _Added(flags, reports)


def _jest(segment: str, following: list[str], project: Project, at: str) -> _Added:
    flags = f"--ci --json --outputFile={at}-jest.json --testLocationInResults"
    reports = {"-jest.json": "jest"}
    if _covers(segment, project, "jest", ("jest",)):
        flags += "" if "--coverage" in segment else " --coverage"
        flags += f" --coverageReporters=text --coverageReporters=json-summary --coverageDirectory={at}-coverage"
        reports["-coverage/coverage-summary.json"] = "istanbul"
    return _Added(flags, reports)


def _covers(segment: str, project: Project, name: str, providers: tuple[str, ...]) -> bool:
    """True if coverage can be turned on, and that cannot change how the run ends."""
    if re.search(r"--coverage(?:\.enabled)?=false|--no-coverage", segment):
        return False
    if not set(providers) & detect.packages(project.manifest).keys():
        return False
    configs = [text for path, text in project.files.items() if re.fullmatch(rf"(?:{name}|vite)\.config\.\w+", path)]
    if "--coverage" in segment:
        return True
    return not any("hreshold" in text for text in [*configs, str(project.manifest.get("jest", ""))])


_ASSIGNED = r"(?:[A-Za-z_]\w*=\S* )*"
_MOCHA = re.compile(rf"^({_ASSIGNED})(?:npx )?(_?mocha)(?=\s|$)")
_C8 = re.compile(rf"^({_ASSIGNED}(?:npx )?(?:c8|nyc))(?=\s)")


def _mocha(segment: str, following: list[str], project: Project, at: str) -> _Added:
    flags = f"--reporter {MOCHA_REPORTER} --reporter-option output={at}-mocha.json"
    reports = {"-mocha.json": "mocha"}
    covered = f"--reporter=text --reporter=json-summary --report-dir={at}-coverage"
    own = _C8.match(segment)
    if not own and not (_MOCHA.match(segment) and _can_cover(project)):
        return _Added(flags, reports)
    instead = (_C8, rf"\1 {covered}") if own else (_MOCHA, rf"\1c8 {covered} \2")
    return _Added(flags, reports | {"-coverage/coverage-summary.json": "istanbul"}, instead=instead)


def _can_cover(project: Project) -> bool:
    """True if c8 is there, and does not end a run for want of coverage."""
    configs = [project.files.get(name, "") for name in (".c8rc.json", ".c8rc", ".nycrc", ".nycrc.json")]
    limits = re.search(r"check-?coverage", "".join([*configs, str(project.manifest.get("c8", ""))]), re.IGNORECASE)
    return "c8" in detect.packages(project.manifest) and not limits


def _node(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    if "--test-reporter" in segment:
        return None
    flags = "--test-reporter=spec --test-reporter-destination=stdout"
    flags += f" --test-reporter=junit --test-reporter-destination={at}-node.xml"
    # With a loader between, what is measured is not the project's code.
    if re.search(r"\btsx\b|--(?:import|require|loader|experimental-loader)\b|\s-r\s|\bc8\b|\bnyc\b", segment):
        return _Added(flags, {"-node.xml": "junit"}, "--test")
    covers = "" if "--experimental-test-coverage" in segment else " --experimental-test-coverage"
    flags += f"{covers} --test-reporter=lcov --test-reporter-destination={at}-node.lcov"
    return _Added(flags, {"-node.xml": "junit", "-node.lcov": "lcov"}, "--test")


def _bun(segment: str, following: list[str], project: Project, at: str) -> _Added:
    flags = f"--reporter=junit --reporter-outfile={at}-bun.xml --coverage --coverage-reporter=text"
    flags += f" --coverage-reporter=lcov --coverage-dir={at}-coverage"
    return _Added(flags, {"-bun.xml": "junit", "-coverage/lcov.info": "lcov"})


def _eslint(segment: str, following: list[str], project: Project, at: str) -> _Added:
    return _Added(f"--format json --output-file {at}-eslint.json", {"-eslint.json": "eslint"})


def _biome(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    if following[:1] and following[0] not in {"lint", "check", "ci"}:
        return None
    return _Added(f"--max-diagnostics=none --reporter=json >{at}-biome.json", {"-biome.json": "biome"})


def _oxlint(segment: str, following: list[str], project: Project, at: str) -> _Added:
    return _Added(f"--format json >{at}-oxlint.json", {"-oxlint.json": "oxlint"})


def _tsc(segment: str, following: list[str], project: Project, at: str) -> _Added:
    return _Added(f"--pretty false >{at}-tsc.txt", {"-tsc.txt": "tsc"})


def _svelte_check(segment: str, following: list[str], project: Project, at: str) -> _Added:
    return _Added(f"--output machine-verbose >{at}-svelte-check.txt", {"-svelte-check.txt": "svelte-check"})


def _vite(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    """Source maps beside the scripts that they are of, which tell of what a script is made."""
    if following[:1] != ["build"] or "--sourcemap" in segment:
        return None
    return _Added("--sourcemap hidden", {})


#: The call of a Python test runner, after what may stand before it.
_MODULE = re.compile(
    rf"^({_ASSIGNED}(?:(?:uv|poetry) run )?)"
    r"(?:python(?:3(?:\.\d+)?)? -m )?(?:pytest|py\.test|unittest)(?=\s|$)"
)
_PYTHON_CONFIGS = ("pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", ".coveragerc", ".pytest.ini")


def _pytest(segment: str, following: list[str], project: Project, at: str) -> _Added:
    flags = f"-o junit_family=xunit1 --junitxml={at}-pytest.xml"  # the only form with files and lines
    reports = {"-pytest.xml": "junit"}
    if re.search(r"--cov\b(?!-)", f"{segment} {_config(project)}"):
        return _Added(f"{flags} --cov-report=json:{at}-coverage.json", reports | {"-coverage.json": "coverage.py"})
    # The processes of pytest-xdist would not be measured.
    if not _MODULE.match(segment) or re.search(
        r"(?<!\w)(?:-n|--numprocesses)[ =]?\w|--no-cov", segment + _config(project)
    ):
        return _Added(flags, reports)
    reports["-coverage.json"] = "coverage.py"
    return _Added(flags, reports, instead=(_MODULE, rf"\1{COVERED} {at}-coverage.json {_source(project)}-m pytest"))


def _unittest(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    if not _MODULE.match(segment):
        return None
    runner = f"-m xmlrunner --output-file={at}-unittest.xml"
    return _Added(
        "",
        {"-unittest.xml": "unittest", "-coverage.json": "coverage.py"},
        instead=(_MODULE, rf"\1{COVERED} {at}-coverage.json {_source(project)}{runner}"),
    )


def _source(project: Project) -> str:
    """What is measured: the project, unless it says itself what that is."""
    return "" if re.search(r"^\s*(?:source\w*|include) *=", _config(project), re.MULTILINE) else "--source=. "


def _config(project: Project) -> str:
    return "\n".join(project.files.get(name, "") for name in _PYTHON_CONFIGS)


def _ruff(segment: str, following: list[str], project: Project, at: str) -> _Added | None:
    if following[:1] != ["check"]:
        return None
    return _Added(f"--output-format json --output-file {at}-ruff.json", {"-ruff.json": "ruff"})


_Maker = Callable[[str, list[str], Project, str], _Added | None]
_NODE_TESTS: dict[str, _Maker] = {
    "vitest": _vitest, "jest": _jest, "mocha": _mocha, "_mocha": _mocha, "node": _node, "bun": _bun
}  # fmt: skip
_PYTHON_TESTS: dict[str, _Maker] = {"pytest": _pytest, "py.test": _pytest, "unittest": _unittest}
_TOOLS: dict[str, dict[str, _Maker]] = {
    "": {},
    "tests": {**_NODE_TESTS, **_PYTHON_TESTS},
    "lint": {
        "eslint": _eslint,
        "biome": _biome,
        "oxlint": _oxlint,
        "tsc": _tsc,
        "vue-tsc": _tsc,
        "svelte-check": _svelte_check,
        "ruff": _ruff,
    },
    "bundle": {"vite": _vite},
}
