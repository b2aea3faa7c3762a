"""The report of executor/tools/analyze.mjs as {files, types, lint, dependencies, bundle}.

A part that could not be done is {skipped: why}. docs/analysis.md has the form of each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from executor.reports import lint
from executor.reports.values import (
    MAX_NAME,
    MAX_PATH,
    Entry,
    ReportInvalid,
    inside,
    listed,
    load_object,
    number,
    objects,
    path,
    required,
    text,
)

MAX_REASON = 500
MAX_TYPES = 100
_NOT_FOUND, _KILLED = {126, 127}, 137
#: Reads a report of a linter; see executor/reports/lint.py.
Reader = Callable[[bytes], Entry]


class _Skipped(Exception):
    """A part that could not be done; the text says why."""


def reader(linters: Mapping[str, Reader]) -> Reader:
    """What reads an analysis, whose parts hold reports of `linters`. It raises ReportInvalid."""

    def read(data: bytes) -> Entry:
        parts = {str(part.get("part")): part for part in required(load_object(data).get("parts"), "parts")}
        return {
            "files": _tried(_files, parts.get("files")),
            "types": _tried(lambda part: _checked(part, linters), parts.get("types")),
            "lint": _tried(lambda part: _checked(part, linters), parts.get("lint")),
            "dependencies": _dependencies(parts),
            "bundle": _tried(_bundle, parts.get("bundle")),
        }

    return read


def combined(found: Sequence[Entry]) -> Entry:
    """Several analyses as one: the last."""
    return found[-1]


def _tried(read: Callable[[Entry], Entry], part: Entry | None) -> Entry:
    """What `read` makes of a part, or why it is skipped."""
    try:
        return read(_done(part))
    except (_Skipped, ReportInvalid) as error:
        return {"skipped": text(str(error), MAX_REASON) or "it does not say why"}


def _done(part: Entry | None) -> Entry:
    """The part, if it ran. Raises _Skipped."""
    if part is None:
        raise _Skipped("it was not reported")
    code = number(part.get("code"))
    if part.get("skipped"):
        raise _Skipped(text(part["skipped"], MAX_REASON))
    if part.get("timedOut") is True:
        raise _Skipped("it took too long")
    if part.get("error"):
        raise _Skipped(text(part["error"], MAX_REASON))
    if code in _NOT_FOUND or code >= _KILLED:
        raise _Skipped(_failed("it was killed, perhaps for want of memory" if code >= _KILLED else "not found", part))
    return part


def _failed(what: str, part: Entry) -> str:
    tail = text(part.get("tail"))[-MAX_REASON // 2 :]
    return f"{what} (exit code {number(part.get('code'))})" + (f": {tail}" if tail else "")


def _checked(part: Entry, linters: Mapping[str, Reader]) -> Entry:
    """What the type checker or the linters found."""
    reports = objects(part.get("reports"))
    read = [linters[name](_content(each)) for each in reports if (name := str(each.get("format"))) in linters]
    if not read:
        raise _Skipped(_failed("it wrote no report", part))
    found = read[0] if len(read) == 1 else lint.combined(read)
    if number(part.get("code")) and not found["issues"]:
        raise _Skipped(_failed("it failed without a finding", part))
    return found


def _content(report: Entry) -> bytes:
    found = report.get("text")
    return found.encode("utf-8", "replace") if isinstance(found, str) else b""


def _files(part: Entry) -> Entry:
    found = part.get("data")
    types = inside(found, "types")
    named = types.items() if isinstance(types, dict) else ()
    entries = [{"type": text(name, 50), **_counts(each)} for name, each in named]
    entries.sort(key=lambda entry: -entry["lines"])
    return {**_counts(found), "types": entries[:MAX_TYPES]}


def _counts(found: Any) -> Entry:
    return {name: number(inside(found, name), 10**12) for name in ("files", "bytes", "lines")}


def _dependencies(parts: Mapping[str, Entry]) -> Entry:
    return {name: _tried(read, parts.get(part)) for name, (part, read) in _DEPENDENCIES.items()}


def _json(part: Entry) -> Entry:
    """The JSON that a part's tool wrote. Raises _Skipped and ReportInvalid."""
    report = next(objects(part.get("reports")), None)
    if report is None:
        raise _Skipped(_failed("it wrote no report", part))
    if not _content(report).strip():
        return {}
    return load_object(_content(report))


def _outdated(part: Entry) -> Entry:
    """What `npm outdated --json` found."""
    found = _json(part)
    if isinstance(found.get("error"), dict):
        raise _Skipped(f"the registry was not reached: {text(inside(found, 'error', 'summary'))}")
    entries = [made for name, each in found.items() if (made := _newer(name, each))]
    return {"majors": sum(entry["major"] for entry in entries), **listed("packages", entries, _is_major)}


def _newer(name: str, found: Any) -> Entry | None:
    found = next(objects(found), None) if isinstance(found, list) else found
    current, wanted, latest = (text(inside(found, each), 50) for each in ("current", "wanted", "latest"))
    if not latest:
        return None
    is_major = bool(current) and _major(current) < _major(latest)
    return {"name": text(name, MAX_NAME), "current": current, "wanted": wanted, "latest": latest, "major": is_major}


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0


def _is_major(entry: Entry) -> bool:
    return bool(entry["major"])


def _unused(part: Entry) -> Entry:
    """Packages of the manifest that nothing uses."""
    kinds = (("dependencies", False), ("devDependencies", True))
    entries = [
        {"name": text(found.get("name"), MAX_NAME), "dev": is_dev}
        for kind, is_dev in kinds
        for _, found in _issues(part, kind)
    ]
    return listed("packages", entries, lambda entry: not entry["dev"])


def _missing(part: Entry) -> Entry:
    """Packages that are used, and are not in the manifest."""
    return listed("packages", [_use(*each) for each in _issues(part, "unlisted")], bool)


def _unresolved(part: Entry) -> Entry:
    """Imports that lead to no file."""
    return listed("imports", [_use(*each) for each in _issues(part, "unresolved")], bool)


def _issues(part: Entry, kind: str) -> Iterator[tuple[Entry, Entry]]:
    """(file, finding) of one kind in Knip's report."""
    for file in required(_json(part).get("issues"), "issues"):
        for found in objects(file.get(kind)):
            yield file, found


def _use(file: Entry, found: Entry) -> Entry:
    return {
        "name": text(found.get("name"), MAX_NAME),
        "file": path(file.get("file")),
        "line": number(found.get("line")),
    }


def _packages(part: Entry) -> list[tuple[str, str, str]]:
    """(name, version, licence) of what is installed."""
    found = part.get("data")
    rows = found if isinstance(found, list) else []
    return [
        (text(row[0], MAX_NAME), text(row[1], 100), text(row[2], 100))
        for row in rows
        if isinstance(row, list) and len(row) == 3
    ]


def _duplicates(part: Entry) -> Entry:
    """Packages that are installed in several versions."""
    versions: dict[str, set[str]] = defaultdict(set)
    for name, version, _ in _packages(part):
        versions[name].add(version)
    entries = [{"name": name, "versions": sorted(found)[:50]} for name, found in versions.items() if len(found) > 1]
    return {"installed": sum(map(len, versions.values())), **listed("packages", entries, bool)}


def _licenses(part: Entry) -> Entry:
    """How many packages have which licence, and those that name none."""
    packages = _packages(part)
    counts = Counter(licence for _, _, licence in packages if licence)
    unknown = [{"name": name, "version": version} for name, version, licence in packages if not licence]
    entries = [{"license": name, "packages": count} for name, count in counts.most_common()]
    return {**listed("licenses", entries, bool), **listed("unknown", unknown, bool)}


def _bundle(part: Entry) -> Entry:
    """What the build made: all of it, and the parts of each script and style sheet."""
    if number(part.get("code")):
        raise _Skipped(_failed("the build failed", part))
    found = part.get("data")
    chunks = [_chunk(each) for each in required(inside(found, "chunks"), "chunks")]
    chunks.sort(key=lambda chunk: -chunk["bytes"])
    others = {name: number(inside(found, "others", name)) for name in ("files", "bytes")}
    return {
        "folder": path(inside(found, "folder")),
        "bytes": sum(chunk["bytes"] for chunk in chunks) + others["bytes"],
        "others": others,
        **listed("packages", _by_package(chunks), bool),
        **listed("chunks", chunks, bool),
    }


def _chunk(found: Entry) -> Entry:
    made: Entry = {"file": path(found.get("file"))}
    made |= {name: number(found.get(name)) for name in ("bytes", "gzipBytes")}
    if not isinstance(found.get("modules"), list):
        return made
    modules = [
        {"file": text(each.get("file"), MAX_PATH), "bytes": number(each.get("bytes"))}
        for each in objects(found["modules"])
    ]
    cut = number(found.get("modulesCut"))
    return made | {"modules": modules[:200]} | ({"modulesCut": cut} if cut else {})


def _by_package(chunks: Sequence[Entry]) -> list[Entry]:
    """The bytes of each package in all chunks, the most first; "" is the project's own code."""
    sizes: Counter[str] = Counter()
    for chunk in chunks:
        for module in chunk.get("modules", ()):
            sizes[_package(module["file"])] += module["bytes"]
    return [{"name": name, "bytes": size} for name, size in sizes.most_common()]


def _package(file: str) -> str:
    """The package that a file is of."""
    _, found, rest = file.rpartition("node_modules/")
    return "/".join(rest.split("/")[: 2 if rest.startswith("@") else 1]) if found else ""


#: What is said of dependencies: the part that it comes from, and what reads it.
_DEPENDENCIES: dict[str, tuple[str, Callable[[Entry], Entry]]] = {
    "outdated": ("outdated", _outdated),
    "unused": ("unused", _unused),
    "missing": ("unused", _missing),
    "unresolved": ("unused", _unresolved),
    "duplicates": ("packages", _duplicates),
    "licenses": ("packages", _licenses),
}
