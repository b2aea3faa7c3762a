"""Installed dependencies that many jobs share: one tree for each set of inputs, read-only, never changed.

A tree is filled from a job's workspace right after its install, before a line of the job's own code has run, by a
container of our own code. A job that needs the same tree has links to it in its node_modules, so it installs nothing,
and what it writes to node_modules stays its own. The name of a tree is known to those alone that have its links, which
are the jobs that would install the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor import archive, cellar, installers, spec
from executor.cellar import Cellar, Kept
from executor.sandbox import Guard

SCRIPTS_OFF = "--ignore-scripts"
FILLER = (Path(__file__).parent / "fill.py").read_text()
#: What an install reads of a project, beside its lockfile.
INPUTS = ("package.json", ".npmrc")
#: What could make an install do more than that: programs of the project, or parts of it elsewhere.
OTHER_INPUTS = ("pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs", ".yarnrc", ".yarnrc.yml", "bunfig.toml")
#: What refuses packages that lie outside of the project, which is where the links lead.
WANT_THEIR_OWN = frozenset({"next", "nuxt", "expo", "react-native", "metro", "parcel", "gatsby"})
NODE_MODULES = "node_modules"
FOLDER = f"{archive.PROJECT}/{NODE_MODULES}"


@dataclass(frozen=True, slots=True)
class Tree(Kept):
    """One that is there: what its node_modules holds, and how long the install took that it saves."""

    entries: tuple[str, ...]
    install_ms: int

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Tree:
        """From JSON, as Kept.read()."""
        kept, entries = Kept.read(body), tuple(map(str, body["entries"]))
        return cls(kept.folder, kept.born, kept.slot, kept.size, entries, int(body["install_ms"]))

    @property
    def links(self) -> dict[str, str]:
        """What a project's node_modules holds in its place."""
        return {name: f"{cellar.MOUNT}/{self.folder}/{NODE_MODULES}/{name}" for name in self.entries}


def filled(said: bytes) -> tuple[tuple[str, ...], int]:
    """What a filling container says: the names in node_modules, and their bytes. Raises ValueError if it is wrong."""
    try:
        body = json.loads(said)
        names, size = tuple(map(str, body["entries"])), int(body["size"])
        archive.links(dict.fromkeys(names, ""))
    except (LookupError, TypeError) as error:
        raise ValueError(f"the filler said something else: {error}") from error
    return names, size


def key(files: Mapping[str, str], install: Sequence[str], image: str, environment: Mapping[str, str]) -> str | None:
    """What determines an install, as one word; None if it must not be shared.

    Shared are installs without the packages' scripts, of one package.json and its lockfile, by any tool but yarn 2.
    """
    try:
        manifest = json.loads(files.get("package.json", ""))
    except ValueError:
        return None
    if (
        not install
        or not all(SCRIPTS_OFF in command for command in install)
        or any(name in files for name in OTHER_INPUTS)
    ):
        return None
    wanted = {name for kind in ("dependencies", "devDependencies") for name in manifest.get(kind) or {}}
    if wanted & WANT_THEIR_OWN or manifest.keys() & {"workspaces", "patchedDependencies", "pnpm"}:
        return None
    read = {name: files[name] for name in (*INPUTS, *installers.LOCKFILES) if name in files}
    read["package.json"] = _installed_part(manifest)
    inputs = [read, list(install), image, dict(environment)]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _installed_part(manifest: Mapping[str, Any]) -> str:
    """A manifest without what no installer looks at, so that another script or version number is the same install."""
    passed_over = {"name", "version", "description", "scripts", "private", "author", "license", "keywords", "type"}
    return json.dumps({name: value for name, value in manifest.items() if name not in passed_over}, sort_keys=True)


class Trees:
    """The trees of one engine."""

    def __init__(self, kept_in: Cellar) -> None:
        """They are among what is kept there."""
        self._cellar = kept_in

    def find(self, name: str) -> Tree | None:
        """The tree of this key, if it is there; it counts as used now. Raises EngineFault."""
        for file, tree in self._cellar.find(f"{name}.json", Tree.read):
            self._cellar.use(file)
            return tree
        return None

    def share(self, name: str, tenancy: spec.Tenancy, install_ms: int, guard: Guard) -> None:
        """Make a tree of what was installed in a workspace, unless there is one. Raises as Cellar.fill()."""

        def program(folder: str) -> tuple[str, ...]:
            return FILLER, f"{cellar.FROM}/{FOLDER}", f"{folder}/{NODE_MODULES}"

        def made(kept: Kept, said: bytes) -> tuple[str, Tree]:
            entries, size = filled(said)
            return f"{name}.json", Tree(kept.folder, kept.born, kept.slot, size, entries, install_ms)

        self._cellar.fill(tenancy, program, guard, made)
