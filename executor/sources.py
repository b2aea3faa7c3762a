"""Where a project's dependencies come from: what is neither a registry nor the project is refused before the install.

This is for the clear message; what keeps an install from other places is that it cannot reach them (egress.py).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from executor import python, requirements

_KINDS = ("dependencies", "devDependencies", "optionalDependencies")
_GIT = re.compile(r"(?:git|ssh)(?:\+\w+)?:|(?:github|gitlab|bitbucket|gist):|[\w.-]+@[\w.-]+:", re.IGNORECASE)
#: In a manifest, owner/name is a repository too.
_SHORT_GIT = re.compile(r"(?!\.)[\w.-]+/[\w.-]+(?:#.*)?")
_URL = re.compile(r"https?://", re.IGNORECASE)
_LOCAL = re.compile(r"(?:(?:file|link|portal):|(?=\.{0,2}/|~/))([^#]*?)(?:::.*|#.*)?", re.IGNORECASE)
_ARCHIVES = (".whl", ".zip", ".gz", ".bz2", ".xz", ".tar", ".tgz")
#: Where each lockfile says where a package came from.
_LOCKED: dict[str, re.Pattern[str]] = {
    "package-lock.json": re.compile(r'"resolved"\s*:\s*"([^"]+)"'),
    "npm-shrinkwrap.json": re.compile(r'"resolved"\s*:\s*"([^"]+)"'),
    "pnpm-lock.yaml": re.compile(r"""\b(?:tarball|repo): ['"]?([^\s,}'"]+)"""),
    "yarn.lock": re.compile(r"""^ +resolved "?([^"\s]+)|^ +resolution: "@?[^"@]+@([^"]+)""", re.MULTILINE),
    "bun.lock": re.compile(r"""\["@?[^"@]+@([^"]+)"(?:, "(https?://[^"]+)")?"""),
    "uv.lock": re.compile(r'\b(?:registry|url|index) = "(https?://[^"]+)"|\b(git) = "'),
    "poetry.lock": re.compile(r'^url = "([^"]+)"|^type = "(git)"', re.MULTILINE),
}
#: What names a place in a file of requirements: an address or a repository, after an option, a name and @, or alone.
_REQUIRED = re.compile(
    r"(?:.*?(?:@|=|\s))?\s*((?:\w+\+)?(?:https?|git|ssh|file)(?:\+\w+)?:\S+)(?:\s.*)?", re.IGNORECASE
)
_REQUIREMENTS = re.compile(
    r"(?:.*/)?(?:[\w.-]*requirements[\w.-]*|requirements/[\w.-]+|constraints[\w.-]*)\.(?:txt|in)"
)


def refused(files: Mapping[str, str], allowed: Container[str]) -> str | None:
    """The first dependency of a project that comes from elsewhere, as a sentence; None if there is none.

    `allowed` holds host:port of every place that may be reached.
    """
    for where, name, source in _sources(files):
        if why := _fault(source, posixpath.dirname(where), allowed):
            return f"{where}: {f'{name} comes' if name else 'a package comes'} from {source[:200]!r}, {why}"
    return None


#: What names a package of the index: name, extras, versions, markers; of pip's options only hashes may follow.
_REQUIREMENT = re.compile(
    r"(?!.*\s-(?!-hash=))[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?:\s*\[[\w\s,.-]*\])?\s*\(?[\w\s.,*+!<>=~-]*\)?"
    r"\s*(?:;[^@]*?)?(?:\s+--hash=\S+)*"
)
_COMMENT = re.compile(r"(?:^|\s)#.*")


def refused_requirement(text: str) -> str | None:
    """The first line of a requirements.txt that is more than a package of the index, as a sentence; None if none is.

    Options could lead elsewhere, or have code of a package run in the install; so could folders and archives.
    """
    for line in text.replace("\\\n", " ").splitlines():
        wanted = _COMMENT.sub("", line).strip()
        if wanted and (not _REQUIREMENT.fullmatch(wanted) or wanted.lower().endswith(_ARCHIVES)):
            rule = "which is not a package of the index; options, addresses, folders and files are not taken"
            return f"requirements.txt: {line.strip()[:200]}, {rule}"
    return None


def _sources(files: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(file, package or "", source) of everything that could be fetched."""
    for path, text in files.items():
        name = posixpath.basename(path)
        if name == "package.json":
            yield from ((path, package, version) for package, version in _wanted(text))
        elif pattern := _LOCKED.get(name):
            yield from (
                (path, "", _full(group)) for found in pattern.finditer(text) for group in found.groups() if group
            )
        elif path == "pyproject.toml":
            yield from ((path, "", source) for source in _of_tables(_toml(text), ()))
        elif path == "uv.toml":
            yield from ((path, "", source) for source in _of_tables(_toml(text), ("tool", "uv")))
        elif _REQUIREMENTS.fullmatch(path):
            yield from ((path, "", source) for line in requirements.logical_lines(text) for source in _required(line))


def _full(source: str) -> str:
    """A lockfile that only says that something is a repository."""
    return "git:" if source == "git" else source


def _toml(text: str) -> Any:
    try:
        return python.manifest({"pyproject.toml": text})
    except ValueError:
        return {}  # which recipes.py has read, if it is used


def _required(requirement: str) -> Iterator[str]:
    if found := _REQUIRED.fullmatch(requirement):
        yield found[1].split("#")[0]


def _of_tables(value: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Every source that a pyproject.toml names, wherever in what package managers read."""
    if isinstance(value, dict):
        for name, inner in value.items():
            named = {"git": "git:", "path": "file:", "url": ""}.get(name) if place[:1] == ("tool",) else None
            if named is not None and isinstance(inner, str) and _names_sources(place):
                yield f"{named}{inner}"
            else:
                yield from _of_tables(inner, (*place, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _of_tables(inner, place)
    elif isinstance(value, str) and _asks_for(place):
        yield from _required(value)


def _names_sources(place: tuple[str, ...]) -> bool:
    return place[1:2] in {("uv",), ("poetry",), ("pdm",)} and place[:3] != ("tool", "poetry", "urls")


def _asks_for(place: tuple[str, ...]) -> bool:
    """True if texts there are requirements."""
    heads = (("project", "dependencies"), ("project", "optional-dependencies"), ("build-system", "requires"))
    return place[:2] in heads or place[:1] == ("dependency-groups",) or place[:2] == ("tool", "uv")


def _wanted(manifest: str) -> Iterator[tuple[str, str]]:
    try:
        parsed: Any = json.loads(manifest)
    except (ValueError, RecursionError):
        return  # not the project's own, which recipes.py has read
    for kind in _KINDS:
        packages = parsed.get(kind) if isinstance(parsed, dict) else None
        for name, version in packages.items() if isinstance(packages, dict) else ():
            if isinstance(version, str):
                short = _SHORT_GIT.fullmatch(version.strip())
                yield name, f"github:{version.strip()}" if short else version.strip()


def _fault(source: str, folder: str, allowed: Container[str]) -> str | None:
    if _URL.match(source):
        return None if _place(source) in allowed else "which is not a registry that may be reached (EGRESS_ALLOW)"
    if local := _LOCAL.fullmatch(source):
        target = posixpath.normpath(posixpath.join(folder, local[1]))
        return "which is outside the project" if target.startswith(("..", "/")) or local[1][:1] == "~" else None
    return "and git is not a source that may be used" if _GIT.match(source) else None


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme.lower() == 'https' else 80)}"
    except ValueError:
        return ""
