"""Pure: Python's ways to say what is needed, as lines that its installer takes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Files at the top of a project, in the order in which they are read.
FILES = (
    "requirements.txt",
    *("requirements-dev.txt", "dev-requirements.txt", "requirements_dev.txt", "requirements/dev.txt"),
    *("requirements-test.txt", "test-requirements.txt", "requirements_test.txt", "requirements/test.txt"),
)
MAX_DEPTH = 10
MAX_LINES = 20_000

_OPTION = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]?(?P<file>.+)")
_KEPT = re.compile(r"(?:-i|--index-url|--extra-index-url|--pre)\b.*")
_LOCAL = re.compile(r"(?:-e|--editable)[ =].*|\.{1,2}(?:[/\[].*)?|(?:\./|\.\./|/|file:).*")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_EXACT = re.compile(r"v?\d[\w.!+-]*")
_COMPARED = re.compile(r"(?:==|>=|<=|!=|~=|>|<) ?\d[\w.*!+-]*")


@dataclass(slots=True)
class Needs:
    """What to install, and the versions that are to be taken if they are needed; remarks for the log."""

    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def of_files(files: Mapping[str, str]) -> Needs:
    """What the project's requirements files say, and the files that these name."""
    needs = Needs()
    seen: set[str] = set()
    for name in FILES:
        if name in files:
            _read(name, files, needs, seen, into=needs.lines)
    return needs


def _read(path: str, files: Mapping[str, str], needs: Needs, seen: set[str], into: list[str]) -> None:
    if path in seen or len(seen) > MAX_DEPTH * len(FILES):
        return
    seen.add(path)
    for line in logical_lines(files[path]):
        if named := _OPTION.fullmatch(line):
            other = posixpath.normpath(posixpath.join(posixpath.dirname(path), named["file"].strip()))
            if other not in files:
                needs.notes.append(f"{path}: there is no {other}")
            else:
                _read(other, files, needs, seen, needs.constraints if line.lstrip("-")[0] == "c" else into)
        elif _LOCAL.fullmatch(line):
            continue  # the project itself, which is made ready without a network
        elif line.startswith("-") and not _KEPT.fullmatch(line):
            needs.notes.append(f"{path}: ignored {line.split()[0]}")
        elif len(into) < MAX_LINES:
            into.append(line)


def logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, those that end in a backslash joined with the next."""
    for line in text.removeprefix("\ufeff").replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        if plain := " ".join(_COMMENT.sub("", line).split()):
            yield plain


def of_manifest(manifest: Mapping[str, Any], extras: Collection[str]) -> list[str]:
    """The dependencies of pyproject.toml, with those of the named extras and groups."""
    project = manifest.get("project")
    project = project if isinstance(project, dict) else {}
    lines = [*_strings(project.get("dependencies"))]
    optional, groups = project.get("optional-dependencies"), manifest.get("dependency-groups")
    for name in extras:
        lines += _strings(optional.get(name)) if isinstance(optional, dict) else ()
        lines += _group(groups, name, 0) if isinstance(groups, dict) else ()
    mine = str(project.get("name", "")).lower()
    # A package that names itself means its own extras, which are here already.
    return [line for line in lines if re.split(r"[^\w.-]", line.lower(), maxsplit=1)[0] != mine or not mine]


def _group(groups: Mapping[str, Any], name: str, depth: int) -> Iterator[str]:
    entries = groups.get(name)
    for entry in entries if isinstance(entries, list) and depth < MAX_DEPTH else ():
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict) and isinstance(other := entry.get("include-group"), str):
            yield from _group(groups, other, depth + 1)


def _strings(value: Any) -> Iterator[str]:
    texts = (each.strip() for each in value if isinstance(each, str)) if isinstance(value, list) else iter(())
    return (each for each in texts if each and not each.startswith("-"))


def of_request(wanted: Mapping[str, str]) -> list[str]:
    """A request's packages, name -> version: 1.2.3, comparisons such as >=1.2 <2, or * for any.

    Raises:
        ValueError: A version is npm's alone; the text names it.
    """
    return [f"{name}{_versions(name, ' '.join(version.split()))}" for name, version in wanted.items()]


def _versions(name: str, version: str) -> str:
    if version in {"", "*", "latest"}:
        return ""
    if _EXACT.fullmatch(version):
        return f"=={version.removeprefix('v')}"
    parts = [part.replace(" ", "") for part in re.split(r",? (?=[=<>!~])|,", version)]
    if not all(_COMPARED.fullmatch(part) for part in parts):
        raise ValueError(f"dependencies: {name} {version} is not a version of Python's, such as 1.2.3, >=1.2 or *")
    return ",".join(parts)
