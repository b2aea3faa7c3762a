"""Paths of a project's files: canonical, relative, POSIX; anything else is named, never mended."""

from __future__ import annotations

import functools
import re

MAX_PATH_BYTES = 1_024
MAX_SEGMENT_BYTES = 255
MAX_DEPTH = 32
MAX_GLOB = 200

_UNSAFE_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SEGMENT_FAULTS = {
    "": "has an empty segment (two slashes, or one at the end)",
    ".": "has a . segment",
    "..": "has a .. segment",
    "node_modules": "lies in node_modules, which is installed, never taken from a request",
    ".git": "lies in .git, which is never taken from a request",
}


@functools.lru_cache(maxsize=4_096)  # generated projects have most of their paths in common
def path_fault(path: str) -> str | None:
    """What keeps `path` from being a canonical relative POSIX path of a project's file; None if nothing does."""
    if not path:
        return "is empty"
    if _UNSAFE_CHARACTER.search(path):
        return "has a control character or a backslash"
    if path[0] == "/" or _DRIVE.match(path):
        return "is absolute"
    segments = path.lower().split("/")
    if len(segments) > MAX_DEPTH or len(path.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES:,} bytes or deeper than {MAX_DEPTH} folders"
    if not _SEGMENT_FAULTS.keys().isdisjoint(segments):
        return next(_SEGMENT_FAULTS[segment] for segment in segments if segment in _SEGMENT_FAULTS)
    return _name_fault(path, segments[-1])


def glob_fault(glob: str) -> str | None:
    """What keeps `glob` from choosing output files of a project; None if nothing does. Brackets are not special."""
    if len(glob) > MAX_GLOB:
        return f"is longer than {MAX_GLOB} characters"
    if any("**" in segment and segment != "**" for segment in glob.split("/")):
        return "has ** beside other characters; it stands alone between slashes, for any number of folders"
    return path_fault(glob)


def _name_fault(path: str, lowered_name: str) -> str | None:
    # Only a path that is long in all can hold a segment that is too long.
    if len(path) * 4 > MAX_SEGMENT_BYTES and any(len(name.encode()) > MAX_SEGMENT_BYTES for name in path.split("/")):
        return f"has a segment of more than {MAX_SEGMENT_BYTES} bytes"
    if lowered_name == "package.json" and not path.endswith("package.json"):
        return "is package.json in other letters; write it in lower case"
    return None
