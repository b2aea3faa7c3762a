"""Pure: what checks the sources of a project that does not say: its linters, its type checker, or our own rules."""

from __future__ import annotations

import re
import shlex

from executor import detect, spec
from executor.commands import Project

#: For a project that configures no linter: rules of ours, run by a linter of ours that stands nowhere on the PATH.
OWN_RULES = (
    f"/opt/checks/node_modules/.bin/oxlint -c {spec.WORK}/tools/oxlint.json"
    f" --ignore-path={spec.WORK}/tools/oxlint.ignore"
)
_SOURCE = re.compile(r".+\.(?:[cm]?[jt]sx?|vue|svelte|astro)")


def wanted(project: Project) -> list[str]:
    """What a lint runs: the linters that are configured; without one, the type checker; without that, our own rules."""
    return _configured(project) or types(project) or _own_rules(project)


def linters(project: Project) -> list[str]:
    """The linters that are configured; without one, our own rules."""
    return _configured(project) or _own_rules(project)


def types(project: Project) -> list[str]:
    """The type checker, for each tsconfig; one that also reads the project's components, where there is one."""
    packages = detect.packages(project.manifest)
    checked = detect.type_checks(project.files) if "typescript" in packages else ()
    checker = "vue-tsc" if "vue-tsc" in packages else "tsc"
    svelte = {path for path in checked if "svelte-check" in packages and "svelte" in project.files[path]}
    return [
        f"svelte-check --tsconfig {shlex.quote(path)}"
        if path in svelte
        else f"{checker} --noEmit -p {shlex.quote(path)}"
        for path in checked
    ]


def _configured(project: Project) -> list[str]:
    eslint = detect.packages(project.manifest).get("eslint", "")
    return [_linter(name, eslint) for name in detect.linters(project.files, project.manifest)]


def _linter(name: str, eslint: str) -> str:
    if name == "eslint-old":
        flat_off = "ESLINT_USE_FLAT_CONFIG=false " if detect.major(eslint) >= 9 else ""
        return f"{flat_off}eslint . --ext .js,.jsx,.cjs,.mjs,.ts,.tsx"
    # Without a .gitignore, which need not be sent, oxlint alone would read what is installed.
    return {"eslint": "eslint .", "biome": "biome lint .", "oxlint": "oxlint --ignore-pattern=node_modules"}[name]


def _own_rules(project: Project) -> list[str]:
    return [OWN_RULES] if any(map(_SOURCE.fullmatch, project.files)) else []
