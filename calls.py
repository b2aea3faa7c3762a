"""The vocabulary of function jobs: one call of a function, where its code is, and what a handler may be called."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from neighbours import known

#: The runtimes, each with the endings that a handler's file may have, in the order in which they are tried.
RUNTIMES: dict[str, tuple[str, ...]] = {
    "node": (".mjs", ".js", ".cjs", ".ts", ".mts", ".cts"),
    "python": (".py",),
}
MAX_EVENT_BYTES = 1 << 20
MAX_HANDLER = 300

_HANDLER = re.compile(r"(?P<path>[^.\s][^\s]*)\.(?P<export>[A-Za-z_$][A-Za-z0-9_$]*)")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Package:
    """The tree of one version, packed by the job `job_id` in its run `fence`: where it lies on the functions' shelf."""

    job_id: str
    fence: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Quota:
    """How many functions there may be, how many versions of each are kept, and the bytes of all trees together."""

    functions: int = 100
    versions: int = 5
    bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function: `export` of `file` is called with `event`.

    A named function has its `name` and `version`. With its `package` it is a call of that version; without one, the
    job makes the version: it installs, looks whether the handler can be loaded, and packs the tree.
    """

    runtime: str
    file: str
    export: str
    event: Any = None
    name: str = ""
    version: int = 0
    package: Package | None = None

    @property
    def makes_version(self) -> bool:
        """True if nothing is called yet."""
        return bool(self.name) and self.package is None

    @property
    def handler(self) -> str:
        """What is called, as callers write it."""
        return f"{self.file.rpartition('.')[0]}.{self.export}"

    def with_event(self, event: Any) -> Call:
        """The same call with another event."""
        return replace(self, event=event)

    def to_json(self) -> dict[str, Any]:
        """As a request is kept; from_json() is the inverse."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # asdict would copy the event
        return values | {"package": asdict(self.package) if self.package else None}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Call:
        """Raises ValueError, KeyError or TypeError for what to_json() never makes."""
        return cls(**{**body, "package": Package(**known(Package, body["package"])) if body["package"] else None})


def shown_name(name: str) -> str:
    """A function's name without the tenant that it belongs to."""
    return name.rpartition("/")[2]


def is_name(text: str) -> bool:
    """True if a function may be called so: 1 to 64 small letters, digits and inner hyphens."""
    return _NAME.fullmatch(text) is not None


def found(handler: str, runtime: str, files: Container[str]) -> tuple[str, str]:
    """(file, export) that a handler means.

    Raises:
        ValueError: There is none, in a sentence that says what was looked for.
    """
    parts = _HANDLER.fullmatch(handler)
    if not parts:
        raise ValueError("handler must be a file and its export, such as index.handler.")
    path, endings = parts["path"], RUNTIMES[runtime]
    candidates = [path] if path.endswith(endings) else [path + ending for ending in endings]
    file = next((each for each in candidates if each in files), None)
    if file is None:
        raise ValueError(f"handler names no file of the project: there is no {' or '.join(candidates)}.")
    return file, parts["export"]
