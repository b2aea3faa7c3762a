"""One run: prepare, install, run the command, collect. Each step is a container, each end of the job a Result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from errors import EngineFault
from executor import collected, installers, spec
from executor.collected import BadFrames, Collected
from executor.images import NODE, PYTHON, Images
from executor.output import Log
from executor.recipes import Plan
from executor.sandbox import Deadline, Engine, Exit, Guard, Overrun, Sandbox, workspace
from jobs import Artifact, Conclusion, Limits, OutputChunk, Phase, PhaseTime, Reason, Result

COLLECTOR = (Path(__file__).parent / "collect.py").read_text()
BIN = f"{spec.PROJECT}/node_modules/.bin"
#: A job that prints more than this is ended: its output costs the engine's processor time, not the job's.
OUTPUT_BYTES = 1 << 30
MESSAGE_CHARS = 4_000
PERCENT = {Phase.PREPARING: 0, Phase.INSTALLING: 5, Phase.COLLECTING: 90}
COMMAND_PERCENT = 50


class Watch(Protocol):
    """What a run reports to while it goes on."""

    def output(self, chunk: OutputChunk) -> None:
        """Take the next part of the log."""

    def progress(self, percent: int, phase: Phase) -> None:
        """Hear that a phase begins; `percent` never falls."""

    def stopped(self) -> bool:
        """Answer True once the run is to stop; asked about ten times a second."""

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Store one output file; all blocks are to be read."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one run is given. `environment` is the job's own and reaches its command only."""

    plan: Plan
    archive: list[bytes]
    environment: Mapping[str, str]
    tenancy: spec.Tenancy
    limits: Limits


class Ended(Exception):
    """The job is over before its last step; the text says what failed."""

    def __init__(self, reason: Reason, sentence: str, exit_code: int | None = None) -> None:
        """The end of the step's output is added to `sentence`."""
        super().__init__(sentence)
        self.reason = reason
        self.exit_code = exit_code


class Run:
    """The steps of one run, in order."""

    def __init__(self, engine: Engine, images: Images, order: Order, log: Log, watch: Watch) -> None:
        """The clock of the whole run starts here."""
        self._engine = engine
        self._images = images
        self._order = order
        self._log = log
        self._watch = watch
        self._total = Deadline.after(order.limits.total_s, "the whole job")
        self._archive = order.archive
        self._containers = 0
        self._doing = "preparing"
        self._tail = ""
        self._command = ""
        self._phases: list[PhaseTime] = []
        self._detail: dict[str, Any] = {}

    def result(self) -> Result:
        """Run to the end; containers and volume are gone when this returns.

        Raises:
            RunStopped: The watch said so.
            EngineFault: The engine failed, not the job.
        """
        with contextlib.ExitStack() as cleanup:
            with self._phase(Phase.PREPARING):
                for note in self._order.plan.notes:
                    self._log.say(note)
                self._node = self._images.ensure(self._engine.client, NODE)
                self._python = self._images.ensure(self._engine.client, PYTHON)
                cleanup.enter_context(workspace(self._engine, self._order.tenancy))
            try:
                return self._steps(self._order.plan)
            except Ended as end:
                return self._failed(end.reason, str(end), end.exit_code)
            except Overrun as over:
                limit = f"{self._doing} was ended: the limit of {over.limit} is {over.seconds:g} s"
                return self._failed(Reason.TIMEOUT, limit, None)

    def _steps(self, plan: Plan) -> Result:
        if plan.install:
            self._install(plan.install)
        self._run_command(plan)
        found = self._collect(plan.outputs) if plan.outputs else None
        return Result(
            Conclusion.SUCCESS,
            command=self._command,
            exit_code=0,
            phases=tuple(self._phases),
            artifacts=found.artifacts if found else (),
            skipped=found.skipped if found else (),
            output_tail=self._tail,
            detail=self._detail,
        )

    def _install(self, commands: tuple[str, ...]) -> None:
        deadline = Deadline.after(self._order.limits.install_s, "one install")
        environment = {**self._order.plan.environment, **self._images.registry_environment}
        with self._phase(Phase.INSTALLING):
            for command in commands:
                ended = self._shell(command, environment, deadline, network=True)
                if ended.code == 0 or command == commands[-1] or not installers.refused_lockfile(self._log.found):
                    break
                self._log.begin(Phase.INSTALLING, installers.SIGNS)
                self._log.say("the lockfile does not match package.json; installing without it")
        if ended.code and not ended.oom_killed and installers.registry_unreachable(self._log.found):
            raise Ended(Reason.REGISTRY_UNREACHABLE, f"`{command}` cannot reach the package registry", ended.code)
        self._require_success(ended, Reason.INSTALL_FAILED)

    def _run_command(self, plan: Plan) -> None:
        deadline = Deadline.after(self._order.limits.command_s, "one command")
        path = f"{BIN}:{plan.environment.get('PATH', spec.PATH)}"
        environment = {**plan.environment, "PATH": path, **self._order.environment}
        with self._phase(plan.phase):
            ended = self._shell(plan.command, environment, deadline, network=False)
        if ended.code in {126, 127} and not ended.oom_killed:
            cannot = f"`{plan.command}` cannot be found or run (exit code {ended.code})"
            raise Ended(Reason.COMMAND_NOT_FOUND, cannot, ended.code)
        self._require_success(ended, plan.failed)

    def _require_success(self, ended: Exit, reason: Reason) -> None:
        if ended.oom_killed and ended.code == 0:
            self._detail["oomEvents"] = 1  # a child was killed, and the command did well without it
        elif ended.oom_killed:
            size = f"{self._order.limits.memory_bytes >> 20} MB"
            raise Ended(Reason.OUT_OF_MEMORY, f"{self._doing} needed more memory than the limit of {size}", ended.code)
        elif ended.code:
            raise Ended(reason, f"{self._doing} failed with exit code {ended.code}", ended.code)

    def _shell(self, command: str, environment: Mapping[str, str], deadline: Deadline, *, network: bool) -> Exit:
        """Run a command in the project, in a container of its own, and log what it prints."""
        self._command, self._doing = command, f"`{command}`"
        self._log.say(f"$ {command}")
        archive, self._archive = self._archive, []  # only the first container has an empty workspace
        step = spec.Step(
            self._node,
            ("/bin/sh", "-c", 'cd "$0" && exec /bin/sh -c "$1"', spec.PROJECT, command),
            environment,
            network=network,
            archive_bytes=sum(map(len, archive)),
        )
        guard = Guard(self._watch.stopped, (deadline, self._total))
        with self._sandbox(step) as box:
            box.start(archive, guard)
            for stream, data in box.output(guard):
                self._take(stream, data)
            return box.exit(guard)

    def _take(self, stream: str, data: bytes) -> None:
        if data:
            self._log.feed(stream, data)
        else:
            self._log.tick()
        if self._log.received_bytes > OUTPUT_BYTES:
            raise Ended(Reason.OUTPUT_LIMIT, f"{self._doing} was ended: it printed more than {OUTPUT_BYTES >> 20} MB")

    def _collect(self, folders: tuple[str, ...]) -> Collected:
        self._doing = "collecting the output"
        limits = self._order.limits
        order = collected.order(spec.PROJECT, folders, limits)
        step = spec.Step(self._python, ("python3", "-I", "-S", "-c", COLLECTOR, order), writable=False)
        guard = Guard(self._watch.stopped, (Deadline.after(limits.collect_s, "collecting"), self._total))
        with self._phase(Phase.COLLECTING), self._sandbox(step) as box:
            box.start([], guard)
            found = self._read(box, guard)
        if found.over:
            raise Ended(Reason.ARTIFACT_TOO_LARGE, _too_large(found, limits))
        self._detail["outputDir"] = found.folder
        if found.skipped_count > len(found.skipped):
            self._detail["skippedCount"] = found.skipped_count
        return found

    def _read(self, box: Sandbox, guard: Guard) -> Collected:
        said: list[bytes] = []
        try:
            return collected.read(_stdout(box.output(guard), said), self._order.limits, self._watch.keep)
        except BadFrames as error:
            last = b"".join(said).decode(errors="replace")[-500:]
            raise EngineFault(
                Reason.STORAGE_FAILED, f"the output cannot be collected: {error} {last}".strip()
            ) from error

    def _sandbox(self, step: spec.Step) -> Sandbox:
        tenancy = self._order.tenancy
        self._containers += 1
        settings = spec.container(step, tenancy, self._order.limits)
        return Sandbox(self._engine, settings, f"{tenancy.name}-{self._containers}")

    @contextlib.contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        """Time a phase and tell the watch of it."""
        self._watch.progress(PERCENT.get(phase, COMMAND_PERCENT), phase)
        self._log.begin(phase, installers.SIGNS if phase is Phase.INSTALLING else None)
        began = time.monotonic()
        try:
            yield
        finally:
            self._log.end()
            if phase is not Phase.COLLECTING:  # whose output is files
                self._tail = self._log.tail
            self._phases.append(PhaseTime(phase, round((time.monotonic() - began) * 1000)))

    def _failed(self, reason: Reason, sentence: str, exit_code: int | None) -> Result:
        room = MESSAGE_CHARS - len(sentence) - 3
        return Result(
            reason.conclusion,
            reason,
            f"{sentence}:\n\n{self._tail[-room:]}" if self._tail and room > 0 else sentence[:MESSAGE_CHARS],
            command=self._command,
            exit_code=exit_code,
            phases=tuple(self._phases),
            output_tail=self._tail,
            detail=self._detail,
        )


def _stdout(output: Iterator[tuple[str, bytes]], errors: list[bytes]) -> Iterator[bytes]:
    """What comes on stdout; the first of what comes on stderr goes to `errors`."""
    for stream, data in output:
        if stream == "stdout":
            yield data
        elif data and len(errors) < 16:
            errors.append(data[:4096])


def _too_large(found: Collected, limits: Limits) -> str:
    caps = {
        "bytes": f"{limits.artifact_bytes:,} bytes",
        "files": f"{limits.artifact_files:,} files",
        "entries": f"{collected.MAX_ENTRIES:,} directory entries",
    }
    return (
        f"the output folder {found.folder} holds more than {caps.get(str(found.over), 'is allowed')}; nothing is kept"
    )
