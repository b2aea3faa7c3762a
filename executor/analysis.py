"""Pure: what an analysis does, as one order to executor/tools/analyze.mjs; docs/analysis.md tells what comes back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from executor import checks, commands, spec
from executor.commands import Instrumented, Project, Report

KNIP = "node /opt/checks/node_modules/knip/bin/knip.js"
#: What the packages of the manifest could be, asked while there is a network.
_LOOK_UP = f"timeout 15 npm outdated --json >{commands.REPORTS}/outdated.json 2>/dev/null || true"
_UNUSED = (
    f"{KNIP} --include dependencies,unlisted,unresolved,optionalPeerDependencies --reporter json --no-exit-code"
    f" --no-progress >{commands.REPORTS}/unused.json"
)
_REPORT = Report("analysis.json", "analysis", "analyze")

Part = dict[str, Any]


def looked_up(install: Sequence[str]) -> tuple[str, ...]:
    """The commands of an install, each followed by the question for newer versions; that one never fails it."""
    return tuple(f"{command} && {{ {_LOOK_UP}; }}" for command in install)


def planned(project: Project, build: str, folders: Sequence[str], *, installs: bool) -> Instrumented:
    """The command of an analysis, and its report.

    `build` is what makes the bundle ("": nothing does), into one of `folders`. `installs`: there are packages.
    """
    parts = [
        {"part": "files"},
        _checked("types", checks.types(project), project, "there is no tsconfig.json with the package typescript"),
        _checked("lint", checks.linters(project), project, "there are no sources that a linter reads"),
        *_dependencies(installs=installs),
        _bundle(project, build, folders),
    ]
    order = shlex.quote(json.dumps(parts))
    return Instrumented(f"node {spec.WORK}/tools/analyze.mjs {order}", (_REPORT,))


def _checked(part: str, texts: Sequence[str], project: Project, otherwise: str) -> Part:
    if not texts:
        return {"part": part, "skipped": otherwise}
    made = commands.all_of(texts, "lint", project)
    # Each part has reports of its own name, since parts are numbered from 0 each.
    text = made.text.replace(f"{commands.REPORTS}/", f"{commands.REPORTS}/{part}-")
    reports = [[f"{part}-{report.path}", report.format] for report in made.reports]
    return {"part": part, "run": text, "reports": reports}


def _dependencies(*, installs: bool) -> list[Part]:
    if not installs:
        return [{"part": part, "skipped": "the project has no packages"} for part in ("outdated", "unused", "packages")]
    return [
        {"part": "outdated", "reports": [["outdated.json", "json"]]},
        {"part": "unused", "run": _UNUSED, "reports": [["unused.json", "json"]]},
        {"part": "packages"},
    ]


def _bundle(project: Project, build: str, folders: Sequence[str]) -> Part:
    if not build:
        return {
            "part": "bundle",
            "skipped": "nothing builds: there is no script named 'build', and no command is given",
        }
    made = commands.instrumented(build, "bundle", project) or Instrumented(build, ())
    return {"part": "bundle", "run": made.text, "folders": list(folders)}
