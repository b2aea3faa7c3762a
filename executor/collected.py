"""Reads what executor/collect.py sends, trusting none of it: sizes, counts and paths are checked again."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from executor.archive import check_path
from jobs import Artifact, Limits

MAX_HEADER_BYTES = 1 << 20
MAX_SKIPPED = 100
MAX_DEPTH = 32
MAX_ENTRIES = 200_000
MAX_PATH_BYTES = 1_024


class BadFrames(ValueError):
    """The collector broke off, or sent something that it never sends."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was there: the folder taken (None: no candidate exists), its files, what was left out and why.

    `over` names the cap that was passed (bytes, files, entries); nothing is taken then. `unmatched` has the numbers of
    the globs that no file was taken for.
    """

    folder: str | None
    over: str | None
    artifacts: tuple[Artifact, ...]
    skipped: tuple[dict[str, str], ...]
    skipped_count: int
    unmatched: tuple[int, ...] = ()


def order(root: str, folders: Iterable[str], limits: Limits, globs: Iterable[str] = ()) -> str:
    """The collector's argument; without `globs`, all files of the folder are meant."""
    return json.dumps(
        {
            "root": root,
            "folders": list(folders),
            # A bracket is a bracket: frameworks have files like [slug].js.
            "globs": [glob.replace("[", "[[]").split("/") for glob in globs],
            "maxFiles": limits.artifact_files,
            "maxBytes": limits.artifact_bytes,
            "maxDepth": MAX_DEPTH,
            "maxPathBytes": MAX_PATH_BYTES,
            "maxEntries": MAX_ENTRIES,
        }
    )


def read(stream: Stream, limits: Limits, keep: Callable[[str, Iterable[bytes]], Artifact]) -> Collected:
    """Hand every file of one folder to `keep`, in path order.

    Raises:
        BadFrames: The stream ends early or is not what the collector sends.
    """
    head = stream.message()
    count = _number(head, "files", limits.artifact_files)
    artifacts: list[Artifact] = []
    left = limits.artifact_bytes
    for _ in range(count):
        entry = stream.message()
        path, size = _path(entry), _number(entry, "size", left)
        left -= size
        if artifacts and path.encode() <= artifacts[-1].path.encode():
            raise BadFrames("paths are not in order")
        artifacts.append(keep(path, stream.exactly(size)))
        stream.finish()
    return Collected(
        folder=_text(head, "folder"),
        over=_text(head, "over"),
        artifacts=tuple(artifacts),
        skipped=_skipped(head),
        skipped_count=_number(head, "skippedCount", MAX_ENTRIES + 1_000),
        unmatched=_numbers(head, "unmatched"),
    )


class Stream:
    """Exact reads from blocks that are cut anywhere."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._buffer = b""
        self._owed = 0

    def exactly(self, size: int) -> Iterator[bytes]:
        """`size` bytes in blocks; what the taker leaves, even if it takes none, `finish` reads away."""
        self._owed = size
        return self._taken()

    def _taken(self) -> Iterator[bytes]:
        while self._owed:
            block = self._buffer or next(self._blocks, b"")
            if not block:
                raise BadFrames("the collector broke off")
            taken, self._buffer = block[: self._owed], block[self._owed :]
            self._owed -= len(taken)
            yield taken

    def finish(self) -> None:
        """Read what is left of the file before."""
        for _ in self.exactly(self._owed):
            pass

    def message(self) -> dict[str, Any]:
        """The next frame's JSON."""
        (length,) = struct.unpack(">I", b"".join(self.exactly(4)))
        if length > MAX_HEADER_BYTES:
            raise BadFrames(f"a header of {length} bytes")
        try:
            message = json.loads(b"".join(self.exactly(length)))
        except (ValueError, RecursionError) as error:
            raise BadFrames("a header that is not JSON") from error
        if not isinstance(message, dict):
            raise BadFrames("a header that is not an object")
        return message


def _number(message: dict[str, Any], name: str, maximum: int) -> int:
    value = message.get(name)
    if type(value) is not int or not 0 <= value <= maximum:
        raise BadFrames(f"{name} is {value!r:.50}, not within 0..{maximum}")
    return value


def _numbers(message: dict[str, Any], name: str) -> tuple[int, ...]:
    values = message.get(name, [])
    if not isinstance(values, list) or not all(type(value) is int for value in values[:MAX_SKIPPED]):
        raise BadFrames(f"no list of {name}")
    return tuple(values[:MAX_SKIPPED])


def _text(message: dict[str, Any], name: str) -> str | None:
    value = message.get(name)
    return value if isinstance(value, str) else None


def _path(message: dict[str, Any]) -> str:
    try:
        path = base64.b64decode(str(message.get("path")), validate=True).decode()
        check_path(path)
    except ValueError as error:
        raise BadFrames(f"a path that is not acceptable: {error}") from error
    return path


def _skipped(head: dict[str, Any]) -> tuple[dict[str, str], ...]:
    entries = head.get("skipped")
    if not isinstance(entries, list):
        raise BadFrames("no list of skipped entries")
    return tuple(
        {"path": _shown(str(entry.get("path"))), "reason": str(entry.get("reason"))[:100]}
        for entry in entries[:MAX_SKIPPED]
        if isinstance(entry, dict)
    )


def _shown(encoded: str) -> str:
    """A skipped entry's name as text; what is not UTF-8 in it is replaced."""
    try:
        return base64.b64decode(encoded[: len(encoded) // 4 * 4]).decode("utf-8", "replace")
    except ValueError as error:
        raise BadFrames("a name that is not base64") from error
