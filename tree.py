"""The files of one project as a job's request holds them, wherever they came from: text, and bytes that are no text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from errors import Mistake
from paths import path_fault

#: The one form that the bytes of a file have in JSON.
BASE64_FORM = frozenset({"encoding", "content"})


@dataclass(frozen=True, slots=True)
class Room:
    """How much one project may hold: number of files, and bytes of all their contents."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Canonical relative paths to contents: `files` are valid UTF-8, as text; `binary` is everything else, in base64.

    `dependencies` come along with the tree of an earlier job; they have the keys of a package.json.
    """

    files: dict[str, str] = field(default_factory=dict)
    binary: dict[str, str] = field(default_factory=dict)
    dependencies: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Tree:
        """The tree with these contents."""
        tree = cls()
        for path, content in contents.items():
            try:
                tree.files[path] = content.decode()
            except UnicodeDecodeError:
                tree.binary[path] = base64.b64encode(content).decode()
        return tree

    @classmethod
    def from_json(cls, files: Mapping[str, Any], dependencies: dict[str, dict[str, str]] | None = None) -> Tree:
        """The tree of a `projectFiles` without content_fault()s."""
        texts = {path: value for path, value in files.items() if isinstance(value, str)}
        if len(texts) == len(files):
            return cls(texts, {}, dependencies or {})
        decoded = cls.of({path: base64.b64decode(files[path]["content"]) for path in files.keys() - texts.keys()})
        return cls(texts | decoded.files, decoded.binary, dependencies or {})

    @property
    def paths(self) -> set[str]:
        """Of all files."""
        return self.files.keys() | self.binary.keys()

    @property
    def bytes(self) -> int:
        """Of all contents together."""
        return sum(map(utf8_length, self.files.values())) + sum(map(decoded_length, self.binary.values()))

    def over(self, base: Tree) -> Tree:
        """`base` with these files put in, each in place of one of the same path."""
        kept = {path: text for path, text in base.files.items() if path not in self.binary}
        kept_binary = {path: content for path, content in base.binary.items() if path not in self.files}
        return Tree(kept | self.files, kept_binary | self.binary, self.dependencies or base.dependencies)

    def mistakes(self, here: str, room: Room) -> Iterator[Mistake]:
        """What is wrong with these files as a whole; `here` points to where they came from."""
        if len(self.paths) > room.files:
            yield too_many(here, len(self.paths), room)
        if self.bytes > room.bytes:
            yield too_large(here, self.bytes, room)
        yield from clashes(here, self.paths)


def too_many(here: str, count: int, room: Room) -> Mistake:
    """The mistake of a project with too many files."""
    return Mistake(here, f"{_name(here)} has {count:,} files; at most {room.files:,} are accepted.")


def too_large(here: str, size: int, room: Room) -> Mistake:
    """The mistake of a project with too many bytes."""
    detail = f"The files of {_name(here)} hold {size:,} bytes in all; at most {room.bytes:,} are accepted."
    return Mistake(here, detail)


def clashes(here: str, paths: Iterable[str]) -> Iterator[Mistake]:
    """Paths that are a file and a folder."""
    given = set(paths)
    for path in sorted(_folders(given) & given):
        yield Mistake(f"{here}/{token(path)}", "This path is both a file and the folder of another file.")


def file_mistakes(here: str, files: Mapping[str, Any], room: Room) -> Iterator[Mistake]:
    """What is wrong with a map of paths to contents; `here` points to it."""
    if len(files) > room.files:
        yield too_many(here, len(files), room)
        return
    faults = {path: fault for path in files if (fault := path_fault(path))}
    for path, fault in faults.items():
        yield Mistake(f"{here}/{token(path)}", f"The path {fault}.")
    for path, content in files.items():
        if not isinstance(content, str) and (fault := content_fault(content)):
            yield Mistake(f"{here}/{token(path)}", fault)
    yield from clashes(here, (path for path in files if path not in faults))
    total = sum(map(content_length, files.values()))
    if total > room.bytes:
        yield too_large(here, total, room)


def content_fault(value: object) -> str | None:
    """What keeps `value` from being the content of a file in JSON; None if nothing does."""
    if isinstance(value, str):
        return None
    if not isinstance(value, dict) or value.keys() != BASE64_FORM or value["encoding"] != "base64":
        return 'The content of a file must be a string, or {"encoding": "base64", "content": "…"}.'
    try:
        base64.b64decode(value["content"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        return "content must be base64: A-Z, a-z, 0-9, + and /, padded with =, without line breaks."
    return None


def content_length(value: object) -> int:
    """Bytes of one file's content in JSON; 0 for what is none."""
    if isinstance(value, str):
        return utf8_length(value)
    content = value.get("content") if isinstance(value, dict) else None
    return decoded_length(content) if isinstance(content, str) else 0


def utf8_length(text: str) -> int:
    """Bytes of a text; half of a surrogate pair counts as what it is replaced with."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def decoded_length(text: str) -> int:
    """Bytes that base64 stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)


def token(key: str) -> str:
    """One step of a JSON pointer in its URI form (RFC 6901 §6); a very long key is cut."""
    shown = key if len(key) <= 200 else key[:200] + "…"
    return quote(shown.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@", errors="replace")


def _name(here: str) -> str:
    return here.rpartition("/")[2].lstrip("#") or "the archive"


def _folders(paths: Iterable[str]) -> set[str]:
    """Every folder above `paths`."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
