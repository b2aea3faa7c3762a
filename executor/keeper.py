"""The keeper: a container of ours beside a job that holds its workspace, measures it, and is the install's only door.

It runs executor/keep.py, and after a step executor/collect.py, which looks at files only while no container of the job
lives. Never any code of a job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from errors import EngineFault
from executor import collected, findings, spec
from executor.collected import BadFrames, Collected
from executor.egress import Door
from executor.sandbox import Guard, Sandbox
from jobs import Artifact, Limits, Reason

#: What takes one collected file.
Keep = Callable[[str, Iterable[bytes]], Artifact]

SOURCE = (Path(__file__).parent / "keep.py").read_text()
COLLECTOR = (Path(__file__).parent / "collect.py").read_text()
#: With less than this left on the engine's disk, a job that uses it ends; others may need the rest.
DISK_RESERVE_BYTES = 1 << 30
#: A workspace in memory this full has refused something.
FULL = 0.98


class DiskFull(Exception):
    """The workspace holds more than its limit, or nobody can tell; the text says what the job did."""


class EgressOver(Exception):
    """The install moved more bytes than it may; the text says how."""


def step(image: str, house: spec.House, door: Door | None = None) -> spec.Step:
    """The keeper's container, which does nothing before Keeper.begin()."""
    watch = "filesystem" if house.in_memory else "tree"
    order = {"root": spec.WORK, "watch": watch, "gate": door.rules.gate() if door else None}
    command = ("python3", "-I", "-S", "-c", SOURCE, json.dumps(order), COLLECTOR)
    proxy = door.proxy if door else ""
    return spec.Step(image, command, writable=False, stdin=True, volumes_from=proxy, trusted=True)


class Keeper:
    """What a run knows of its keeper, which runs from before the first step to the end."""

    def __init__(self, limits: Limits, house: spec.House, outputs: Sequence[str], globs: Sequence[str]) -> None:
        """There is none yet; see begin(). `outputs` are folders that may hold output, `globs` choose from it."""
        self._limits = limits
        self._in_memory = house.in_memory
        self._output = collected.order(spec.PROJECT, outputs, limits, globs)
        self._said = b""
        self._asked = 0
        self._box: Sandbox
        #: The newest of its reports, with the peaks of `bytes` and `files`.
        self.report: dict[str, Any] = {}

    def begin(self, box: Sandbox, guard: Guard) -> None:
        """Have it watch, in this container. Raises as Sandbox.start()."""
        self._box = box
        self._asked = 1
        box.start([b"report\n"], guard)

    @property
    def network(self) -> str:
        """What shares the keeper's loopback has this as its network."""
        return f"container:{self._box.id}"

    def watch(self) -> None:
        """Hear what the keeper reports.

        Raises:
            DiskFull: A workspace on disk is beyond its limit. One in memory refuses by itself.
            EgressOver: The install moved too much.
            EngineFault: The engine's disk is nearly full, or the keeper is gone.
        """
        for stream, data in self._box.waiting():
            self._hear(stream, data)
        if (way := self.report.get("over")) is not None:
            raise EgressOver(f"{way} more than {self.report[way] >> 20} MB")
        if not self._in_memory:
            self._check_disk()

    def refresh(self, guard: Guard) -> None:
        """Have the newest report, and raise what watch() raises. Also raises as `guard` does."""
        self._asked += 1
        self._box.send(b"report\n", guard)
        for stream, data in self._box.output(guard):
            self._hear(stream, data)
            if self.report.get("asked") == self._asked:
                break
        self.watch()

    @property
    def full(self) -> str | None:
        """What the workspace ran out of, in words; None if there was room at any time."""
        for name, limit, words in self._bounds():
            if self.report.get(name, 0) >= limit * FULL:
                return words
        return None

    def output(self, guard: Guard, keep: Keep) -> Collected:
        """Have the output folder sent, while no container of the job lives. Raises EngineFault, and as `guard` does."""
        return self._collect(self._output, self._limits, guard, keep)

    def reports(self, guard: Guard, keep: Keep) -> Collected:
        """Have the folder of reports sent; otherwise as output()."""
        limits = findings.limits(self._limits)
        return self._collect(collected.order(spec.WORK, [findings.FOLDER], limits), limits, guard, keep)

    def _collect(self, order: str, limits: Limits, guard: Guard, keep: Keep) -> Collected:
        self._asked += 1
        self._box.send(f"collect {order}\n".encode(), guard)
        try:
            return collected.read(collected.Stream(self._stdout(guard)), limits, keep)
        except BadFrames as error:
            last = self._said.decode(errors="replace")[-500:]
            raise EngineFault(
                Reason.STORAGE_FAILED, f"the output cannot be collected: {error} {last}".strip()
            ) from error

    def _stdout(self, guard: Guard) -> Iterator[bytes]:
        for stream, data in self._box.output(guard):
            if stream == "stdout":
                yield data
            else:
                self._hear(stream, data)

    def _hear(self, stream: str, data: bytes) -> None:
        """Take reports, of which the last counts but the peaks stay, and keep the end of anything else."""
        if stream != "stderr":
            return
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            try:
                report = json.loads(line)
            except ValueError:
                self._said = (line + b"\n" + self._said)[-4096:]
                continue
            peaks = {name: max(report[name], self.report.get(name, 0)) for name in ("bytes", "files")}
            self.report = {**report, **peaks}

    def _bounds(self) -> tuple[tuple[str, int, str], ...]:
        limits = self._limits
        return (
            ("bytes", limits.disk_bytes, f"{limits.disk_bytes >> 20} MB"),
            ("files", limits.disk_files, f"{limits.disk_files:,} files"),
        )

    def _check_disk(self) -> None:
        for name, limit, words in self._bounds():
            if self.report.get(name, 0) > limit:
                raise DiskFull(f"wrote more than {words}")
        if self.report.get("closed"):
            raise DiskFull("keeps a folder that cannot be opened, so its size is not known")
        if self.report.get("free", DISK_RESERVE_BYTES) < DISK_RESERVE_BYTES:
            raise EngineFault(Reason.STORAGE_FAILED, "the disk of the Docker Engine is nearly full")
