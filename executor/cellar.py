"""What jobs of one engine share: folders in one volume, filled by code of ours, read-only for jobs, never changed.

Every job's shell sees the volume at MOUNT, so that a shell can wait for any job: nobody can list it, and the name of a
folder is known to those alone that have links into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from docker.errors import NotFound

from executor import spec
from executor.images import PYTHON, Images
from executor.sandbox import ENGINE_ERRORS, Deadline, Engine, Guard, Overrun, Sandbox, translated
from jobs import Reason

log = logging.getLogger(__name__)

MOUNT = "/deps"
LABEL = f"{spec.LABEL}-dependencies"
#: A label that tells a volume from an earlier one of its name. When it was made the engine does not know: it answers
#: when something was last added.
BORN = f"{LABEL}.born"
#: Where a container that fills a folder sees a job's workspace.
FROM = "/from"
#: A folder that is given up stays this long, for the jobs that are about to use it; one that is made is given up if
#: that takes longer.
GRACE_S = 3_600
MAX_REPORT_BYTES = 4 << 20
REMOVE_S = 60.0
#: How files of the list end that are not of what may be used.
UNUSABLE = {".going", ".new"}


@dataclass(frozen=True, slots=True)
class Larder:
    """What is kept: where the list of it is, how much it may take together (0: nothing is kept), for how long."""

    folder: Path = Path()
    max_bytes: int = 0
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder: its name and in which volume, whose files they are (the slot that filled it), and their bytes."""

    folder: str
    born: str
    slot: int
    size: int

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Kept:
        """From JSON. Raises KeyError, TypeError or ValueError: it is something else."""
        return cls(str(body["folder"]), str(body["born"]), int(body["slot"]), int(body["size"]))


K = TypeVar("K", bound=Kept)


def volume_of(service: str) -> str:
    """What the volume of a service is called."""
    return f"cw-deps-{service}"


def filling(image: str, volume: str, workspace: str, program: tuple[str, ...]) -> spec.Step:
    """The container in which a program in Python, with its arguments, fills a folder from a job's workspace."""
    mounts = (spec.Mount(volume, MOUNT, writable=True), spec.Mount(workspace, FROM))
    command = ("python3", "-I", "-S", "-c", *program)
    return spec.Step(image, command, workspace=False, mounts=mounts, trusted=True)


def removing(image: str, volume: str, folder: str) -> spec.Step:
    """The container that removes a folder of the volume."""
    mounts = (spec.Mount(volume, MOUNT, writable=True),)
    return spec.Step(image, ("rm", "-rf", f"{MOUNT}/{folder}"), workspace=False, mounts=mounts, trusted=True)


class Cellar:
    """The folders at one engine. Their list is a folder of small files; several workers may share it.

    <folder>.going is one that is being made, or was given up; what is called otherwise may be used.
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
        # A folder that several workers share may list what is at several engines.
        self._list = larder.folder / hashlib.sha256(known_as.encode()).hexdigest()[:16]

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        return self._max_bytes > 0

    def mounts(self) -> tuple[spec.Mount, ...]:
        """How jobs' containers see it: not at all if nothing is kept. Raises EngineFault."""
        if not self.enabled:
            return ()
        if not self._born():
            with contextlib.suppress(*ENGINE_ERRORS):
                self._engine.api.remove_volume(self._volume)
        labels = {LABEL: "1", f"{LABEL}.service": self._service, BORN: secrets.token_hex(8)}
        with translated("create volume", Reason.STORAGE_FAILED):  # of one that is there already, the labels stay
            self._engine.api.create_volume(self._volume, labels=labels)
        return (spec.Mount(self._volume, MOUNT),)

    def find(self, pattern: str, read: Callable[[Mapping[str, Any]], K]) -> Iterator[tuple[str, K]]:
        """(name, what `read` makes of it) of those whose names match, the last used first. Raises EngineFault.

        What is in another volume is forgotten.
        """
        files = sorted(self._list.glob(pattern), key=_used, reverse=True)
        born = self._born() if files else ""
        for file in files:
            kept = _read(file, read)
            if kept and kept.born == born:
                yield file.name, kept
            elif kept:
                file.unlink(missing_ok=True)

    def use(self, name: str) -> None:
        """What has this name counts as used now."""
        with contextlib.suppress(OSError):
            os.utime(self._list / name)

    def fill(
        self,
        tenancy: spec.Tenancy,
        program: Callable[[str], tuple[str, ...]],
        guard: Guard,
        made: Callable[[Kept, bytes], tuple[str, Kept] | None],
    ) -> None:
        """Have a program, given the path of a new folder, fill that from a workspace, and let others use it.

        `made` gets the folder and what the program said, and answers a name and what is to be remembered; None: nothing
        was filled. If the name is taken, what has it stays, and the folder goes. That a folder cannot be filled is not
        the job's fault.

        Raises:
            RunStopped: The guard said so.
            EngineFault: The engine failed.
        """
        kept = Kept(secrets.token_hex(16), self._born(), tenancy.slot, 0)
        if not kept.born:
            log.warning("dependencies not shared", extra={"error": "their volume was removed; restart the worker"})
            return
        mark = self._mark(kept)
        try:
            image = self._images.ensure(self._engine.client, PYTHON)
            step = filling(image, self._volume, tenancy.volume, program(f"{MOUNT}/{kept.folder}"))
            if named := made(kept, self._run(step, tenancy.slot, guard)):
                self._publish(*named, mark)
            else:
                mark.unlink()
        except (ValueError, OSError, Overrun) as error:
            log.warning("dependencies not shared", extra={"error": str(error)})

    def _publish(self, name: str, kept: Kept, mark: Path) -> None:
        written = mark.with_suffix(".new")
        written.write_text(json.dumps(asdict(kept)))
        try:
            os.link(written, self._list / name)
            mark.unlink()
        except FileExistsError:
            pass
        finally:
            written.unlink()

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
        """Give up what is too old, and the longest unused until the rest fits; remove what was given up.

        Raises:
            EngineFault: The engine does not answer.
        """
        if not self.enabled:
            return
        room, now = self._max_bytes, time.time()
        files = [file for file in self._list.glob("*") if file.suffix not in UNUSABLE]
        for file in sorted(files, key=_used, reverse=True):
            kept = _read(file, Kept.read)
            room -= kept.size if kept else 0
            if not kept or room < 0 or now - _used(file) > self._max_age_s:
                if kept:
                    self._mark(kept)
                file.unlink(missing_ok=True)
        for mark in self._list.glob("*.going"):
            if now - mark.stat().st_mtime >= GRACE_S:
                self._discard(mark)

    def _mark(self, kept: Kept) -> Path:
        """Note that a folder may have to be removed."""
        self._list.mkdir(parents=True, exist_ok=True)
        mark = self._list / f"{kept.folder}.going"
        mark.write_text(json.dumps(asdict(kept)))
        return mark

    def _discard(self, mark: Path) -> None:
        """Remove what a mark stands for, and the mark; what fails is tried again."""
        kept = _read(mark, Kept.read)
        try:
            if kept and kept.born == self._born():
                image = self._images.ensure(self._engine.client, PYTHON)
                guard = Guard(lambda: False, (Deadline.after(REMOVE_S, "removing dependencies"),))
                self._run(removing(image, self._volume, kept.folder), kept.slot, guard)
            mark.unlink(missing_ok=True)
        except (ValueError, OSError, Overrun) as error:
            log.warning("dependencies not removed", extra={"error": str(error)})

    def _born(self) -> str:
        """Which volume it is: another of the same name has none of the folders. Raises EngineFault.

        "" if there is none, or one that the engine made for a container after somebody removed ours.
        """
        with translated("inspect volume"):
            try:
                return str((self._engine.api.inspect_volume(self._volume)["Labels"] or {}).get(BORN, ""))
            except NotFound:
                return ""


def _used(file: Path) -> float:
    """When something was last used; long ago if another worker has just given it up."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _read(file: Path, read: Callable[[Mapping[str, Any]], K]) -> K | None:
    try:
        return read(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
