"""npm's grammar: what a package may be called, and how a version in a registry is named."""

from __future__ import annotations

import re

MAX_NAME = 214
MAX_VERSION = 256

NAME = re.compile(r"(?:@[A-Za-z0-9][A-Za-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*")
_NAMES_TAKEN = {"node_modules", "favicon.ico"}
_NUMBER = r"(?:[xX*]|\d{1,16})"
_PARTIAL = rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_COMPARATOR = rf"(?:\^|~>?|[<>]=?)? ?[v=]? ?{_PARTIAL}"
RANGE = re.compile(rf"(?:{_PARTIAL} - {_PARTIAL}|(?:{_COMPARATOR}(?: {_COMPARATOR})*)?)")
TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_ARCHIVES = (".tgz", ".tar", ".tar.gz")
_GRAMMAR = "must be a semver range, a tag, or npm:<name>@<range>"


def package_fault(name: str) -> str | None:
    """What keeps `name` from being a package's name in npm's grammar; None if nothing does."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name) or name.lower() in _NAMES_TAKEN:
        return f"is not a package name in npm's grammar (at most {MAX_NAME} characters)"
    return None


def version_fault(version: str) -> str | None:
    """What keeps `version` from naming versions in a registry, in npm's grammar; None if nothing does."""
    if len(version) > MAX_VERSION or not (version.isascii() and version.isprintable()):
        return f"must have at most {MAX_VERSION} printable ASCII characters"
    wanted = " ".join(version.split())
    if wanted.startswith("npm:"):
        alias, _, wanted = wanted[4:].rpartition("@") if "@" in wanted[5:] else (wanted[4:], "", "")
        if package_fault(alias):
            return _GRAMMAR
    if ":" in wanted or "/" in wanted or wanted.startswith(".") or wanted.lower().endswith(_ARCHIVES):
        return f"{_GRAMMAR}; git, file, link, workspace and URL sources are not accepted"
    if all(RANGE.fullmatch(part.strip()) for part in wanted.split("||")) or TAG.fullmatch(wanted):
        return None
    return _GRAMMAR
