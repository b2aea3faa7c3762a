"""Installed dependencies that many jobs share: one tree for each set of inputs, read-only, never changed.

A tree is filled from a job's workspace right after its install, before a line of the job's own code has run, by a
container of our own code. A job that needs the same tree sees it at MOUNT and has links to it in its node_modules, so
it installs nothing, and what it writes to node_modules stays its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from executor import archive, installers, spec
from executor.sandbox import ENGINE_ERRORS, Engine, Overrun, translated
from jobs import Reason

log = logging.getLogger(__name__)

MOUNT = "/deps"
LABEL = f"{spec.LABEL}-dependencies"
SCRIPTS_OFF = "--ignore-scripts"
FILLER = (Path(__file__).parent / "fill.py").read_text()
FROM = "/from"
#: What an install reads of a project, beside its lockfile.
INPUTS = ("package.json", ".npmrc")
#: What could make an install do more than that: programs of the project, or parts of it elsewhere.
OTHER_INPUTS = ("pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs", ".yarnrc", ".yarnrc.yml", "bunfig.toml")
#: What refuses packages that lie outside of the project, which is where the links lead.
WANT_THEIR_OWN = frozenset({"next", "nuxt", "expo", "react-native", "metro", "parcel", "gatsby"})
#: A tree that is given up stays this long, for the jobs that are about to use it.
GRACE_S = 3_600
MAX_REPORT_BYTES = 4 << 20
NODE_MODULES = "node_modules"


@dataclass(frozen=True, slots=True)
class Tree:
    """One that is there: its volume, what node_modules holds, its size, and how long the install took that it saves."""

    volume: str
    entries: tuple[str, ...]
    size: int
    install_ms: int

    @property
    def links(self) -> dict[str, str]:
        """What a project's node_modules holds in its place."""
        return {f"{NODE_MODULES}/{name}": f"{MOUNT}/{NODE_MODULES}/{name}" for name in self.entries}

    @property
    def mount(self) -> spec.Mount:
        """How a job's container sees it."""
        return spec.Mount(self.volume, MOUNT)


def filling(image: str, workspace: str, volume: str) -> spec.Step:
    """The container that fills a volume from a job's workspace; it ends with what filled() reads."""
    command = ("python3", "-I", "-S", "-c", FILLER, f"{FROM}/project/{NODE_MODULES}", f"{spec.WORK}/{NODE_MODULES}")
    mounts = (spec.Mount(volume, spec.WORK, writable=True), spec.Mount(workspace, FROM))
    return spec.Step(image, command, workspace=False, mounts=mounts, trusted=True)


def filled(volume: str, said: bytes, install_ms: int) -> Tree:
    """The tree that a filling container says there is. Raises ValueError if what it says cannot be used."""
    try:
        body = json.loads(said)
        tree = Tree(volume, tuple(map(str, body["entries"])), int(body["size"]), install_ms)
        archive.links(tree.links)
    except (LookupError, TypeError) as error:
        raise ValueError(f"the filler said something else: {error}") from error
    return tree


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


@dataclass(frozen=True, slots=True)
class Larder:
    """What is kept of trees: where their list is, how much they may take together (0: none are kept), for how long."""

    folder: Path = Path()
    max_bytes: int = 0
    max_age_s: float = 0.0


class Trees:
    """The trees of one engine. Their list is a folder of small files; several workers may share it."""

    def __init__(self, engine: Engine, service: str, larder: Larder) -> None:
        """`service` sets apart those that share an engine. Raises EngineFault: it does not say which it is."""
        self._engine = engine
        self._labels = {LABEL: "1", f"{LABEL}.service": service}
        self._max_bytes, self._max_age_s = larder.max_bytes, larder.max_age_s
        with translated("ask which engine it is"):
            known_as = str(engine.api.info().get("ID", "")) if self._max_bytes else ""
        # A folder that several workers share may list the trees of several engines.
        self._folder = larder.folder / hashlib.sha256(known_as.encode()).hexdigest()[:16]

    @property
    def enabled(self) -> bool:
        """Whether any are kept."""
        return self._max_bytes > 0

    def find(self, name: str) -> Tree | None:
        """The tree of this key, if it is there; it counts as used now."""
        tree = self._read(self._file(name))
        if not tree:
            return None
        try:
            self._engine.api.inspect_volume(tree.volume)
            os.utime(self._file(name))
        except (*ENGINE_ERRORS, OSError):
            self._file(name).unlink(missing_ok=True)
            return None
        return tree

    def share(self, name: str, fill: Callable[[str], bytes], install_ms: int) -> None:
        """Make a tree of what `fill` puts into a volume and says of it. That it cannot be made is not the job's fault.

        Raises:
            RunStopped: `fill` did.
            EngineFault: The engine failed.
        """
        volume = self._new_volume()
        try:
            self._publish(name, filled(volume, fill(volume), install_ms))
        except (ValueError, OSError, Overrun) as error:
            log.warning("dependencies not shared", extra={"error": str(error)})
            self._discard(volume)
        except BaseException:
            self._discard(volume)
            raise

    def _new_volume(self) -> str:
        volume = f"cw-deps-{secrets.token_hex(8)}"
        with translated("create volume", Reason.STORAGE_FAILED):
            self._engine.api.create_volume(volume, labels=self._labels)
        return volume

    def _publish(self, name: str, tree: Tree) -> None:
        """Let others use a tree that is filled; one that is there already stays, and this one goes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        made = self._folder / f"{tree.volume}.new"
        made.write_text(json.dumps(asdict(tree)))
        try:
            os.link(made, self._file(name))
        except FileExistsError:
            self._discard(tree.volume)
        finally:
            made.unlink()

    def _discard(self, volume: str) -> None:
        """Remove a volume; one that is in use stays until the next sweep."""
        with contextlib.suppress(*ENGINE_ERRORS):
            self._engine.api.remove_volume(volume)

    def sweep(self) -> None:
        """Give up the trees that are too old, and the longest unused until the rest fits; remove what was given up.

        Raises:
            EngineFault: The engine does not answer.
        """
        if not self.enabled:
            return
        kept, room, now = set(), self._max_bytes, time.time()
        files = [(file.stat().st_mtime, file) for file in self._folder.glob("*.json")]
        for used, file in sorted(files, reverse=True):
            tree = self._read(file)
            room -= tree.size if tree else 0
            if tree and room >= 0 and now - used < self._max_age_s:
                kept.add(tree.volume)
            else:
                file.unlink(missing_ok=True)
        for volume in self._volumes():
            if volume["Name"] not in kept and self._is_past_grace(volume["Name"], now):
                self._discard(volume["Name"])

    def _volumes(self) -> list[dict[str, Any]]:
        filters = {"label": [f"{name}={value}" for name, value in self._labels.items()]}
        with translated("list volumes"):
            found: list[dict[str, Any]] = self._engine.api.volumes(filters=filters)["Volumes"] or []
        return found

    def _is_past_grace(self, volume: str, now: float) -> bool:
        """True once a volume that is not listed has been so for a while: a job may have just looked it up."""
        mark = self._folder / f"{volume}.doomed"
        if not mark.exists():
            mark.touch()
            return False
        if now - mark.stat().st_mtime < GRACE_S:
            return False
        mark.unlink(missing_ok=True)
        return True

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @staticmethod
    def _read(file: Path) -> Tree | None:
        try:
            body = json.loads(file.read_text())
            return Tree(str(body["volume"]), tuple(body["entries"]), int(body["size"]), int(body["install_ms"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
