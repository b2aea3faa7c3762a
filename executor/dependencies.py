"""Installed dependencies that many jobs share: one tree for each set of inputs, read-only, never changed.

A tree is filled from a job's workspace right after its install, before a line of the job's own code has run, by a
container of our own code. A job that needs the same tree has links to it in its node_modules, so it installs nothing,
and what it writes to node_modules stays its own. All trees are in one volume, which every job's shell sees at MOUNT, so
that a shell can wait for any job: nobody can list the volume, and the name of a tree is known to those alone that have
its links, which are the jobs that would install the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from executor import archive, installers, spec
from executor.images import PYTHON, Images
from executor.sandbox import ENGINE_ERRORS, Deadline, Engine, Guard, Overrun, Sandbox, translated
from jobs import Reason

log = logging.getLogger(__name__)

MOUNT = "/deps"
LABEL = f"{spec.LABEL}-dependencies"
#: A label that tells a volume from an earlier one of its name. When it was made the engine does not know: it answers
#: when something was last added.
BORN = f"{LABEL}.born"
SCRIPTS_OFF = "--ignore-scripts"
FILLER = (Path(__file__).parent / "fill.py").read_text()
FROM = "/from"
#: What an install reads of a project, beside its lockfile.
INPUTS = ("package.json", ".npmrc")
#: What could make an install do more than that: programs of the project, or parts of it elsewhere.
OTHER_INPUTS = ("pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs", ".yarnrc", ".yarnrc.yml", "bunfig.toml")
#: What refuses packages that lie outside of the project, which is where the links lead.
WANT_THEIR_OWN = frozenset({"next", "nuxt", "expo", "react-native", "metro", "parcel", "gatsby"})
#: A tree that is given up stays this long, for the jobs that are about to use it; one that is made is given up if that
#: takes longer.
GRACE_S = 3_600
MAX_REPORT_BYTES = 4 << 20
REMOVE_S = 60.0
NODE_MODULES = "node_modules"


@dataclass(frozen=True, slots=True)
class Tree:
    """One that is there: its folder and in which volume, whose files they are (the slot that filled it), what
    node_modules holds, its size, and how long the install took that it saves.
    """

    folder: str
    born: str
    slot: int
    entries: tuple[str, ...]
    size: int
    install_ms: int

    @property
    def links(self) -> dict[str, str]:
        """What a project's node_modules holds in its place."""
        return {f"{NODE_MODULES}/{name}": f"{MOUNT}/{self.folder}/{NODE_MODULES}/{name}" for name in self.entries}


def volume_of(service: str) -> str:
    """What the volume of a service's trees is called."""
    return f"cw-deps-{service}"


def filling(image: str, volume: str, workspace: str, folder: str) -> spec.Step:
    """The container that fills a folder of the volume from a job's workspace; it ends with what filled() reads."""
    source, target = (f"{at}/{NODE_MODULES}" for at in (f"{FROM}/project", f"{MOUNT}/{folder}"))
    mounts = (spec.Mount(volume, MOUNT, writable=True), spec.Mount(workspace, FROM))
    command = ("python3", "-I", "-S", "-c", FILLER, source, target)
    return spec.Step(image, command, workspace=False, mounts=mounts, trusted=True)


def removing(image: str, volume: str, folder: str) -> spec.Step:
    """The container that removes a folder of the volume."""
    mounts = (spec.Mount(volume, MOUNT, writable=True),)
    return spec.Step(image, ("rm", "-rf", f"{MOUNT}/{folder}"), workspace=False, mounts=mounts, trusted=True)


def filled(said: bytes) -> tuple[tuple[str, ...], int]:
    """What a filling container says: the names in node_modules, and their bytes. Raises ValueError if it is wrong."""
    try:
        body = json.loads(said)
        names, size = tuple(map(str, body["entries"])), int(body["size"])
        archive.links({f"{NODE_MODULES}/{name}": "" for name in names})
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


@dataclass(frozen=True, slots=True)
class Larder:
    """What is kept of trees: where their list is, how much they may take together (0: none are kept), for how long."""

    folder: Path = Path()
    max_bytes: int = 0
    max_age_s: float = 0.0


class Trees:
    """The trees of one engine. Their list is a folder of small files; several workers may share it.

    <key>.json is a tree that may be used, <folder>.going one that is being made, or was given up.
    """

    def __init__(self, engine: Engine, images: Images, service: str, house: spec.House, larder: Larder) -> None:
        """`service` sets apart those that share an engine. Raises EngineFault: it does not answer."""
        self._engine = engine
        self._images = images
        self._service = service
        self._house = house
        self._max_bytes, self._max_age_s = larder.max_bytes, larder.max_age_s
        self._volume = volume_of(service)
        with translated("ask which engine it is"):
            known_as = str(engine.api.info().get("ID", "")) if self.enabled else ""
        # A folder that several workers share may list the trees of several engines.
        self._list = larder.folder / hashlib.sha256(known_as.encode()).hexdigest()[:16]

    @property
    def enabled(self) -> bool:
        """Whether any are kept."""
        return self._max_bytes > 0

    def mounts(self) -> tuple[spec.Mount, ...]:
        """How jobs' containers see them: not at all if none are kept. Raises EngineFault."""
        if not self.enabled:
            return ()
        if not self._born():
            with contextlib.suppress(*ENGINE_ERRORS):
                self._engine.api.remove_volume(self._volume)
        labels = {LABEL: "1", f"{LABEL}.service": self._service, BORN: secrets.token_hex(8)}
        with translated("create volume", Reason.STORAGE_FAILED):  # of one that is there already, the labels stay
            self._engine.api.create_volume(self._volume, labels=labels)
        return (spec.Mount(self._volume, MOUNT),)

    def find(self, name: str) -> Tree | None:
        """The tree of this key, if it is there; it counts as used now. Raises EngineFault."""
        tree = self._read(self._file(name))
        if not tree:
            return None
        with contextlib.suppress(OSError):
            if tree.born == self._born():
                os.utime(self._file(name))
                return tree
        self._file(name).unlink(missing_ok=True)
        return None

    def share(self, name: str, tenancy: spec.Tenancy, install_ms: int, guard: Guard) -> None:
        """Make a tree of what was installed in a workspace. That it cannot be made is not the job's fault.

        Raises:
            RunStopped: The guard said so.
            EngineFault: The engine failed.
        """
        tree = Tree(secrets.token_hex(16), self._born(), tenancy.slot, (), 0, install_ms)
        if not tree.born:
            log.warning("dependencies not shared", extra={"error": "their volume was removed; restart the worker"})
            return
        mark = self._mark(tree)
        try:
            image = self._images.ensure(self._engine.client, PYTHON)
            said = self._run(filling(image, self._volume, tenancy.volume, tree.folder), tenancy.slot, guard)
            entries, size = filled(said)
            self._publish(name, mark, replace(tree, entries=entries, size=size))
        except (ValueError, OSError, Overrun) as error:
            log.warning("dependencies not shared", extra={"error": str(error)})

    def _publish(self, name: str, mark: Path, tree: Tree) -> None:
        """Let others use a tree that is filled; if there is one already, that stays, and this one goes."""
        made = mark.with_suffix(".new")
        made.write_text(json.dumps(asdict(tree)))
        try:
            os.link(made, self._file(name))
            mark.unlink()
        except FileExistsError:
            pass
        finally:
            made.unlink()

    def _run(self, step: spec.Step, slot: int, guard: Guard) -> bytes:
        """What a container of ours says. Raises ValueError: it fails; EngineFault, and what the guard raises."""
        tenancy, name = spec.Tenancy(self._service, slot, ""), f"{spec.PARKED}{secrets.token_hex(8)}-1"
        said = bytearray()
        try:
            with Sandbox(self._engine, spec.container(step, tenancy, spec.TRUSTED, self._house), name) as box:
                box.start([], guard)
                for stream, data in box.output(guard):
                    said += data if stream == "stdout" and len(said) < MAX_REPORT_BYTES else b""
                code = box.exit(guard).code
        finally:
            self._engine.remove(lambda found: True, name)
        if code:
            raise ValueError(f"`{step.command[0]}` ended with exit code {code}")
        return bytes(said)

    def sweep(self) -> None:
        """Give up the trees that are too old, and the longest unused until the rest fits; remove what was given up.

        Raises:
            EngineFault: The engine does not answer.
        """
        if not self.enabled:
            return
        room, now = self._max_bytes, time.time()
        files = [(file.stat().st_mtime, file) for file in self._list.glob("*.json")]
        for used, file in sorted(files, reverse=True):
            tree = self._read(file)
            room -= tree.size if tree else 0
            if not tree or room < 0 or now - used > self._max_age_s:
                if tree:
                    self._mark(tree)
                file.unlink(missing_ok=True)
        for mark in self._list.glob("*.going"):
            if now - mark.stat().st_mtime >= GRACE_S:
                self._discard(mark)

    def _mark(self, tree: Tree) -> Path:
        """Note that a tree may have to be removed."""
        self._list.mkdir(parents=True, exist_ok=True)
        mark = self._list / f"{tree.folder}.going"
        mark.write_text(json.dumps(asdict(tree)))
        return mark

    def _discard(self, mark: Path) -> None:
        """Remove what a mark stands for, and the mark; what fails is tried again."""
        tree = self._read(mark)
        try:
            if tree and tree.born == self._born():
                image = self._images.ensure(self._engine.client, PYTHON)
                guard = Guard(lambda: False, (Deadline.after(REMOVE_S, "removing dependencies"),))
                self._run(removing(image, self._volume, tree.folder), tree.slot, guard)
            mark.unlink(missing_ok=True)
        except (ValueError, OSError, Overrun) as error:
            log.warning("dependencies not removed", extra={"error": str(error)})

    def _born(self) -> str:
        """Which volume it is: another of the same name has none of the trees. Raises EngineFault.

        "" if there is none, or one that the engine made for a container after somebody removed ours.
        """
        with translated("inspect volume"):
            try:
                return str((self._engine.api.inspect_volume(self._volume)["Labels"] or {}).get(BORN, ""))
            except NotFound:
                return ""

    def _file(self, name: str) -> Path:
        return self._list / f"{name}.json"

    @staticmethod
    def _read(file: Path) -> Tree | None:
        try:
            body = json.loads(file.read_text())
            return Tree(
                str(body["folder"]), str(body["born"]), int(body["slot"]), tuple(body["entries"]), int(body["size"]),
                int(body["install_ms"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            return None
