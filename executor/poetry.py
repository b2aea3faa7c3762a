"""Pure: a Poetry project's dependencies and its poetry.lock, as lines that Python's installer takes.

The lock becomes constraints: its versions, with their hashes, for whatever the direct dependencies lead to.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from executor import requirements
from executor.requirements import Needs

MAX_LOCK = 4 << 20
MAX_HASHES = 200
_HASH = re.compile(r"sha(?:256|384|512):[0-9a-f]{64,128}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+_-]*")


def needs(files: Mapping[str, str], manifest: Mapping[str, Any], extras: Collection[str]) -> Needs:
    """The direct dependencies of pyproject.toml and the versions of poetry.lock. Raises ValueError: it is not TOML."""
    found = Needs(lines=requirements.of_manifest(manifest, extras))
    for section in _sections(manifest):
        found.lines += [line for name, wanted in section.items() for line in _lines(name, wanted)]
    if "poetry.lock" in files:
        found.constraints += _locked(files["poetry.lock"])
    else:
        found.notes.append("there is no poetry.lock, so the newest versions are taken")
    return found


def _sections(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tool = manifest.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    if not isinstance(poetry, dict):
        return
    groups = poetry.get("group")
    wanted = [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    sections = [poetry.get("dependencies"), poetry.get("dev-dependencies")]
    sections += [group.get("dependencies") for group in wanted if group.get("optional") is not True]
    yield from (section for section in sections if isinstance(section, dict))


def _lines(name: str, wanted: Any) -> Iterator[str]:
    """One dependency; several for one that differs by environment."""
    for each in wanted if isinstance(wanted, list) else [wanted]:
        fields = each if isinstance(each, dict) else {"version": each}
        version, extras = fields.get("version", "*"), fields.get("extras", ())
        local = not {"path", "git", "url"}.isdisjoint(fields)  # which sources.py looks at
        if name == "python" or not isinstance(version, str) or fields.get("optional") is True or local:
            continue
        names = ",".join(extra for extra in extras if isinstance(extra, str) and _NAME.fullmatch(extra))
        yield f"{name}{f'[{names}]' if names else ''}{ranged(version)}{_marker(fields)}"


def _marker(fields: Mapping[str, Any]) -> str:
    python = fields.get("python")
    found = [f"({fields['markers']})"] if isinstance(fields.get("markers"), str) else []
    found += [_of_python(python)] if isinstance(python, str) else []
    if isinstance(fields.get("platform"), str):
        found.append(f"sys_platform == '{fields['platform']}'")
    return f" ; {' and '.join(filter(None, found))}" if any(found) else ""


def _of_python(wanted: str) -> str:
    """Python versions as a marker; "" for all."""
    parts = [re.fullmatch(r"(==|>=|<=|!=|~=|>|<)(.+)", part) for part in ranged(wanted).split(",")]
    return " and ".join(f"python_full_version {part[1]} '{part[2]}'" for part in parts if part)


def ranged(version: str) -> str:
    """Poetry's range as Python's own: ^1.2 is >=1.2,<2 and a bare 1.2 is ==1.2. Of alternatives (||) none is kept."""
    if "||" in version or "|" in version:
        return ""
    parts = [_range(part.replace(" ", "")) for part in version.split(",")]
    return ",".join(filter(None, parts))


def _range(part: str) -> str:
    if part in {"", "*", "latest"}:
        return ""
    if part[0] in "^~" and not part.startswith("~="):
        bare = part[1:]
        numbers = [int(number) for number in re.findall(r"\d{1,9}", re.match(r"[\d.]*", bare)[0])]  # type: ignore[index]
        return f">={bare},<{_next(numbers, caret=part[0] == '^')}" if numbers else ""
    if part[0].isdigit():
        return f"=={part}"
    return part


def _next(numbers: list[int], *, caret: bool) -> str:
    """The first version that is too new: after the leftmost number that is not 0 (^), or after the second one (~)."""
    if caret:
        at = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    else:
        at = min(1, len(numbers) - 1)
    return ".".join(map(str, [*numbers[:at], numbers[at] + 1]))


def _locked(lock: str) -> Iterator[str]:
    """A constraint for each package of a lock. Raises ValueError."""
    if len(lock) > MAX_LOCK:
        raise ValueError(f"poetry.lock has more than {MAX_LOCK:,} characters")
    try:
        packages = tomllib.loads(lock).get("package", [])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"poetry.lock is not valid TOML: {error}") from error
    found = [each for each in packages if isinstance(each, dict)] if isinstance(packages, list) else []
    count = Counter(str(each.get("name")) for each in found)
    for each in found:
        if not isinstance(each.get("source"), dict):
            yield from _constraint(each, is_one_of_several=count[str(each.get("name"))] > 1)


def _constraint(package: Mapping[str, Any], *, is_one_of_several: bool) -> Iterator[str]:
    name, version = str(package.get("name")), str(package.get("version"))
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        return
    files = package.get("files")
    hashes = [str(file.get("hash")) for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    kept = [f"--hash={each}" for each in hashes[:MAX_HASHES] if _HASH.fullmatch(each)]
    fields = {"python": package.get("python-versions"), "markers": package.get("markers")} if is_one_of_several else {}
    yield " ".join([f"{name}=={version}{_marker(fields)}", *kept])
