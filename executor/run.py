"""One run: prepare, install, run each work and collect. Each step is a container, each end of the job a Result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from errors import EngineFault
from executor import archive, collected, dependencies, egress, findings, installers, keeper, pipeline, sources, spec
from executor.budget import Budget
from executor.cellar import Cellar
from executor.collected import Collected
from executor.dependencies import Tree, Trees
from executor.egress import Egress
from executor.findings import Taken
from executor.images import PYTHON, Images
from executor.keeper import DiskFull, EgressOver, Keeper
from executor.masking import Masker
from executor.output import TAIL_LINES, Log
from executor.parcels import CONTENT, Offer, Parcels, may_add, wanted
from executor.parking import Attempt, Parking, Site
from executor.recipes import Plan, Work
from executor.sandbox import Deadline, Engine, Exit, Guard, Overrun
from executor.sizes import Sizes
from executor.usage import Usage
from jobs import Artifact, Conclusion, Limits, OutputChunk, Phase, PhaseTime, Reason, Result, iso
from metrics import Tally

MESSAGE_CHARS = 4_000
#: Copying the dependencies for others may take this long; the job waits for it.
SHARE_S = 30.0
PERCENT = {Phase.PREPARING: 0, Phase.INSTALLING: 5}
#: Where the first work begins, and where the last one's output is collected.
WORK_PERCENT, COLLECT_PERCENT = 50, 90


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
class Keeping:
    """How many failed jobs' sandboxes are kept at a time, and for how many seconds."""

    most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Order:
    """What one run is given. `environment` is the job's own and reaches its command only. `keep`: if it fails.

    `tenant` is whose job it is, which shares packages with others of the same.
    """

    plan: Plan
    archive: list[bytes]
    environment: Mapping[str, str]
    attempt: Attempt
    limits: Limits
    use_cache: bool = True
    keep: Keeping | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every run of a service stands on."""

    engine: Engine
    images: Images
    egress: Egress
    house: spec.House
    tally: Tally
    cellar: Cellar
    trees: Trees
    parcels: Parcels
    parking: Parking
    budget: Budget


class Ended(Exception):
    """The job is over before its last step; the text says what failed."""

    def __init__(self, reason: Reason, sentence: str, exit_code: int | None = None) -> None:
        """The end of the step's output is added to `sentence`."""
        super().__init__(sentence)
        self.reason = reason
        self.exit_code = exit_code


#: What ends a step before its own end.
EARLY_ENDS = (Ended, Overrun, DiskFull, EgressOver)


class Run:
    """The steps of one run, in order."""

    def __init__(self, ground: Ground, order: Order, log: Log, watch: Watch, mask: Masker) -> None:
        """The clock of the whole run starts here."""
        self._ground = ground
        self._order = order
        self._log = log
        self._watch = watch
        self._mask = mask
        self._began = time.monotonic()
        self._total = Deadline.after(order.limits.total_s, "the whole job")
        self._archive = order.archive
        self._site: Site
        self._image = ""
        self._kept: dict[str, str] = {}
        self._doing = "preparing"
        self._tail = ""
        self._command = ""
        self._phases: list[PhaseTime] = []
        self._usage = Usage()
        self._keeper = Keeper(order.limits, ground.house, order.plan.outputs, order.plan.globs)
        self._door: egress.Door | None = None
        #: What determines the install (None: it is not shared), and the tree of an earlier one.
        self._tree_key: str | None = None
        self._tree: Tree | None = None
        #: Packages that need not be loaded.
        self._offer = Offer()
        self._works = 0
        #: What is found out by the work that is under way.
        self._detail: dict[str, Any] = {}

    def result(self) -> Result:
        """Run to the end; no code of the job runs any more when this returns.

        Raises:
            RunStopped: The watch said so.
            EngineFault: The engine failed, not the job.
        """
        with contextlib.ExitStack() as cleanup:
            result = self._ended(cleanup)
            if result.reason and self._order.keep and self._image:
                self._keep(self._order.keep)
        detail = {**result.detail, **self._evidence()}
        return self._mask.result(replace(result, phases=tuple(self._phases), detail=detail))

    def _ended(self, cleanup: contextlib.ExitStack) -> Result:
        """All steps, and whatever ends them before the first work."""
        plan = self._order.plan
        try:
            with self._phase(Phase.PREPARING):
                self._prepare(cleanup)
            if plan.install and not self._tree:
                self._install(plan.install)
                self._share()
            if plan.setup:
                self._set_up(plan.setup)
        except EARLY_ENDS as end:
            return replace(self._failed(end), detail=pipeline.unstarted(plan))
        ended: list[Result] = []
        for work in plan.works:
            ended.append(self._work(work))
            if pipeline.is_over(plan, ended[-1]) or time.monotonic() > self._total.at:
                break
        result = pipeline.joined(plan, ended)
        return self._with_chosen(result) if plan.globs else result

    def _with_chosen(self, result: Result) -> Result:
        """A result with the files that the plan's globs choose, whatever the works came to."""
        self._doing, sizes = "collecting the output", Sizes(self._watch.keep)
        guard = Guard(self._watch.stopped, (Deadline.after(self._order.limits.collect_s, "collecting"), self._total))
        try:
            with self._phase(Phase.COLLECTING):
                found = self._keeper.output(guard, sizes.keep)
            if found.over:
                raise Ended(Reason.ARTIFACT_TOO_LARGE, _too_large(found, self._order.limits))
        except EARLY_ENDS as end:
            return result if result.reason else replace(self._failed(end), detail=result.detail)
        found = self._without_secret_names(found)
        unmatched = [glob for number, glob in enumerate(self._order.plan.globs) if number in found.unmatched]
        detail = _output(found, sizes) | ({"unmatchedArtifacts": unmatched} if unmatched else {})
        return replace(result, artifacts=found.artifacts, skipped=found.skipped, detail={**result.detail, **detail})

    def _prepare(self, cleanup: contextlib.ExitStack) -> None:
        """Site, dependencies, proxy and keeper; what may be refused comes before what must be removed."""
        ground, plan = self._ground, self._order.plan
        for note in plan.notes:
            self._log.say(note)
        guard = Guard(self._watch.stopped, (self._total,))
        self._check_sources(guard)
        asked = time.monotonic()
        self._site = cleanup.enter_context(ground.parking.site(self._order.attempt, plan.image, self._order.limits))
        how = "parked" if self._site.parked else "cold"
        ground.tally.observe("container_start_seconds", time.monotonic() - asked, how)
        self._image = self._site.image
        self._take_tree()
        if plan.install and not self._tree:
            self._take_packages()
            self._door = ground.egress.door(guard)
            python = ground.images.ensure(ground.engine.client, PYTHON)
            box = cleanup.enter_context(self._site.sandbox(keeper.step(python, ground.house, self._door)))
            self._keeper.begin(box, guard)
        else:
            self._keeper.begin(self._site.keeper, guard)

    def _take_tree(self) -> None:
        """Use what an earlier job installed of the same inputs, if that is there."""
        plan, ground = self._order.plan, self._ground
        if not self._order.use_cache:
            return
        environment = {**plan.environment, **ground.images.registry_environment}
        self._tree_key = dependencies.key(plan.files, plan.install, self._image, environment)
        if not self._tree_key or not ground.cellar.enabled:
            return
        self._tree = ground.trees.find(self._tree_key)
        ground.tally.count("cache_hits" if self._tree else "cache_misses", "dependencies")
        if self._tree:
            self._log.say(f"the dependencies are there already, which saves {self._tree.install_ms / 1000:.1f} s")
            self._archive = archive.with_links(self._archive, dependencies.FOLDER, self._tree.links)

    def _take_packages(self) -> None:
        """Have npm find what earlier installs loaded, if it can make use of any."""
        order = self._order
        if not order.use_cache:
            return
        self._offer = self._ground.parcels.offer(order.tenant, wanted(order.plan.files, order.plan.install))
        if self._offer.links:
            self._log.say(f"{len(self._offer.links)} packages of earlier jobs are there ({self._offer.size >> 20} MB)")
            self._archive = archive.with_links(self._archive, CONTENT, self._offer.links)

    def _share(self) -> None:
        """Keep what was installed for others: a tree now, before the job's own code has run, packages at the end."""
        if not self._order.use_cache or not self._ground.cellar.enabled:
            return
        if self._tree_key:
            guard = Guard(self._watch.stopped, (Deadline.after(SHARE_S, "sharing the dependencies"), self._total))
            self._ground.trees.share(self._tree_key, self._site.tenancy, self._phases[-1].duration_ms, guard)
        if may_add(self._order.plan.install):
            self._site.afterwards = self._share_packages

    def _share_packages(self) -> None:
        """Keep what npm loaded. The job's code had it in its hands, so no more is kept than the install received."""
        guard = Guard(lambda: False, (Deadline.after(SHARE_S, "sharing the packages"),))
        most = self._keeper.report.get("received", 0)
        self._ground.parcels.add(self._order.tenant, self._offer, self._site.tenancy, most, guard)

    def _check_sources(self, guard: Guard) -> None:
        if self._order.plan.install:
            allowed = {str(origin) for origin in self._ground.egress.origins(guard)}
            if refused := sources.refused(self._order.plan.files, allowed):
                raise Ended(Reason.DEPENDENCY_SOURCE_NOT_ALLOWED, refused)

    def _work(self, work: Work) -> Result:
        """One work to its end, with its own phases."""
        self._detail, phases = dict(work.facts), len(self._phases)
        self._command, self._tail = "", ""
        try:
            result = self._done(work)
        except EARLY_ENDS as end:
            result = self._failed(end)
        self._works += 1
        return replace(result, phases=tuple(self._phases[phases:]), detail=self._detail)

    def _done(self, work: Work) -> Result:
        if work.missing:
            raise Ended(Reason.COMMAND_NOT_FOUND, work.missing)
        ended = self._run_command(work)
        found = self._collect(work) if work.reports or (work.outputs and not ended.code) else None
        if (ended.code and ended.oom_killed) or findings.is_failure(ended.code, work.fail_on, self._detail):
            raise self._failure(ended, work.failed)
        if fault := work.fault(self._detail):
            raise Ended(*fault)
        return Result(
            Conclusion.SUCCESS,
            command=self._command,
            exit_code=ended.code,
            artifacts=found.artifacts if found else (),
            skipped=found.skipped if found else (),
            output_tail=self._tail,
        )

    def _install(self, commands: tuple[str, ...]) -> None:
        deadline = Deadline.after(self._order.limits.install_s, "one install")
        own = self._order.plan.environment
        environment = {**own, **self._ground.images.registry_environment, **egress.environment()}
        with self._phase(Phase.INSTALLING):
            for command in commands:
                ended = self._shell(command, environment, deadline, network=self._keeper.network)
                if ended.code == 0 or command == commands[-1] or not installers.refused_lockfile(self._log.found):
                    break
                self._log.begin(Phase.INSTALLING, installers.SIGNS)
                self._log.say("the lockfile does not match; installing without it")
            if ended.code and (blocked := self._blocked()):
                self._log.say(f"not reached, because not allowed: {', '.join(blocked)}")
        if (
            ended.code
            and not ended.oom_killed
            and not self._blocked()
            and installers.registry_unreachable(self._log.found)
        ):
            if self._door:
                self._ground.egress.renew(self._door)
            raise Ended(Reason.REGISTRY_UNREACHABLE, f"`{command}` cannot reach the package registry", ended.code)
        self._require_success(ended, Reason.INSTALL_FAILED)

    def _set_up(self, command: str) -> None:
        """Make the project itself ready: its own code, so without a network."""
        deadline = Deadline.after(self._order.limits.install_s, "one install")
        with self._phase(Phase.INSTALLING):
            ended = self._shell(command, self._order.plan.environment, deadline, network="none")
        self._require_success(ended, Reason.INSTALL_FAILED)

    def _blocked(self) -> list[str]:
        """The places that the install asked for and the proxy does not let through to."""
        allowed = self._door.allowed if self._door else frozenset()
        return sorted(target for target in self._keeper.report.get("targets", {}) if target not in allowed)

    def _run_command(self, work: Work) -> Exit:
        deadline = Deadline.after(self._order.limits.command_s, "one command")
        until = min(deadline, self._total, key=lambda each: each.at)
        told = {"CHEF_JOB_ID": self._order.attempt.job_id, "CHEF_DEADLINE_MS": str(until.unix_ms)}
        environment = self._order.plan.work_environment({**self._order.environment, **told})
        with self._phase(work.phase):
            ended = self._shell(work.command, environment, deadline, network="none")
        if ended.code in {126, 127} and not ended.oom_killed:
            cannot = f"`{work.command}` cannot be found or run (exit code {ended.code})"
            raise Ended(Reason.COMMAND_NOT_FOUND, cannot, ended.code)
        return ended

    def _require_success(self, ended: Exit, reason: Reason) -> None:
        if ended.code:  # a child may have been killed, and the command did well without it
            raise self._failure(ended, reason)

    def _failure(self, ended: Exit, reason: Reason) -> Ended:
        if ended.oom_killed:
            size = f"{self._order.limits.memory_bytes >> 20} MB"
            return Ended(Reason.OUT_OF_MEMORY, f"{self._doing} needed more memory than the limit of {size}", ended.code)
        if room := self._keeper.full:
            return Ended(Reason.DISK_FULL, f"{self._doing} needed more than the workspace of {room}", ended.code)
        found = findings.verdict(self._detail)
        sentence = f"{found} (exit code {ended.code})" if found else f"{self._doing} failed with exit code {ended.code}"
        return Ended(reason, sentence, ended.code)

    def _shell(self, command: str, environment: Mapping[str, str], deadline: Deadline, *, network: str) -> Exit:
        """Run a command in the project, in a container of its own, and log what it prints."""
        self._command, self._doing = command, f"`{command}`"
        self._log.say(f"$ {command}")
        blocks, self._archive = self._archive, []  # only the first shell has an empty workspace
        guard = Guard(
            self._watch.stopped, (deadline, self._total), (self._keeper.watch, self._usage.watch, self._site.watch)
        )
        with self._site.shell(network) as box:
            box.start(spec.order(command, environment, blocks), guard)
            self._site.ordered()
            self._usage.begin(self._ground.engine, box.id, box.pid())
            for stream, data in box.output(guard):
                self._take(stream, data)
            ended = box.exit(guard)
        self._usage.end(oom_killed=ended.oom_killed)
        if ended.code:
            self._keeper.refresh(Guard(self._watch.stopped, (deadline, self._total)))
        return ended

    def _take(self, stream: str, data: bytes) -> None:
        if data:
            self._log.feed(stream, data)
        else:
            self._log.tick()
        # Ended, because its output costs the engine's processor time and ours, not the job's.
        if self._log.received_bytes > (most := self._order.limits.output_bytes):
            raise Ended(Reason.OUTPUT_LIMIT, f"{self._doing} was ended: it printed more than {most:,} bytes")

    def _collect(self, work: Work) -> Collected | None:
        """Read the work's reports, and take its output, if it may have any."""
        limits = self._order.limits
        guard = Guard(self._watch.stopped, (Deadline.after(limits.collect_s, "collecting"), self._total))
        doing, self._doing = self._doing, "collecting the output"
        sizes = Sizes(self._watch.keep)
        with self._phase(Phase.COLLECTING):
            if work.reports:
                self._read_reports(work, guard)
            found = self._keeper.output(guard, sizes.keep) if work.outputs else None
        if found and found.over:
            raise Ended(Reason.ARTIFACT_TOO_LARGE, _too_large(found, limits))
        self._doing = doing
        if found:
            found = self._without_secret_names(found)
            self._detail |= _output(found, sizes)
        return found

    def _read_reports(self, work: Work, guard: Guard) -> None:
        taken = Taken(frozenset(report.path for report in work.reports))
        over = self._keeper.reports(guard, taken.keep).over
        self._detail |= findings.gathered(work.reports, taken.files, over)
        self._tell()

    def _without_secret_names(self, found: Collected) -> Collected:
        """Files are known by their names everywhere, and a masked name would lead to none."""
        shown = [artifact for artifact in found.artifacts if self._mask.shows_secret(artifact.path)]
        skipped = tuple({"path": artifact.path, "reason": "its name holds a secret"} for artifact in shown)
        kept = tuple(artifact for artifact in found.artifacts if artifact not in shown)
        return replace(
            found,
            artifacts=kept,
            skipped=(*found.skipped, *skipped)[: collected.MAX_SKIPPED],
            skipped_count=found.skipped_count + len(shown),
        )

    def _tell(self) -> None:
        """Say in the log what linters found, which also ends a message about their failure."""
        told = list(findings.lines(self._detail))
        for line in told:
            self._log.say(line)
        if told:
            self._tail = "\n".join([*filter(None, [self._tail]), *told[-TAIL_LINES:]])

    def _keep(self, keeping: Keeping) -> None:
        """Let somebody look into the workspace of a job that failed. That this fails is not the job's fault."""
        try:
            name = self._site.keep(keeping.seconds, keeping.most)
        except EngineFault as error:
            self._log.say(f"the sandbox could not be kept: {error}")
        else:
            self._kept = {"container": name, "until": str(iso(round((time.time() + keeping.seconds) * 1000)))}
            self._log.say(f"kept for {keeping.seconds // 60} min: docker exec -it -w {spec.PROJECT} {name} sh")

    def _evidence(self) -> dict[str, Any]:
        """The figures of the run, whatever its end."""
        elapsed_s, report = time.monotonic() - self._began, self._keeper.report
        body: dict[str, Any] = {"usage": self._usage.to_json(self._order.limits, elapsed_s, report)}
        if cache := self._cache():
            body["cache"] = cache
        body |= {"installScripts": True} if self._order.plan.install_scripts else {}
        if self._image:
            place = "memory" if self._ground.house.in_memory else "disk"
            body["sandbox"] = {"image": self._image, "workspace": place, "runtime": self._ground.house.runtime}
            body["sandbox"] |= {"kept": self._kept} if self._kept else {}
        return body | ({"egress": report["targets"]} if report.get("targets") else {})

    def _cache(self) -> dict[str, Any]:
        """What was found of earlier installs."""
        found: dict[str, Any] = {}
        if self._tree_key and self._ground.cellar.enabled:
            found["dependencies"] = "hit" if self._tree else "miss"
        if self._tree:
            found["savedMs"] = self._tree.install_ms
        if self._offer.links:
            found |= {"offeredPackages": len(self._offer.links), "offeredBytes": self._offer.size}
        return found

    @contextlib.contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        """Time a phase and tell the watch of it."""
        self._watch.progress(self._percent(phase), phase)
        self._log.begin(phase, installers.SIGNS if phase is Phase.INSTALLING else None)
        began = time.monotonic()
        try:
            yield
        finally:
            self._log.end()
            if phase is not Phase.COLLECTING:  # whose output is files
                self._tail = self._log.tail
            self._phases.append(PhaseTime(phase, round((time.monotonic() - began) * 1000)))

    def _percent(self, phase: Phase) -> int:
        done = self._works + (phase is Phase.COLLECTING)
        share = (COLLECT_PERCENT - WORK_PERCENT) * done // len(self._order.plan.works)
        return PERCENT.get(phase, WORK_PERCENT + share)

    def _failed(self, end: Exception) -> Result:
        """What an early end comes to."""
        reason, sentence, code = self._told(end)
        room = MESSAGE_CHARS - len(sentence) - 3
        return Result(
            reason.conclusion,
            reason,
            f"{sentence}:\n\n{self._tail[-room:]}" if self._tail and room > 0 else sentence[:MESSAGE_CHARS],
            command=self._command,
            exit_code=code,
            output_tail=self._tail,
        )

    def _told(self, end: Exception) -> tuple[Reason, str, int | None]:
        if isinstance(end, Ended):
            return end.reason, str(end), end.exit_code
        was_ended = f"{self._doing} was ended"
        if isinstance(end, Overrun):
            return Reason.TIMEOUT, f"{was_ended}: the limit of {end.limit} is {end.seconds:g} s", None
        if isinstance(end, DiskFull):
            return Reason.DISK_FULL, f"{was_ended}: it {end}", None
        return Reason.INSTALL_FAILED, f"{was_ended}: it {end}", None


def _output(found: Collected, sizes: Sizes) -> dict[str, Any]:
    """What the result tells of the files that were taken."""
    told = {"outputDir": found.folder, "outputBytes": sum(artifact.size for artifact in found.artifacts)}
    return (
        told
        | {"output": sizes.told()}
        | ({"skippedCount": found.skipped_count} if found.skipped_count > len(found.skipped) else {})
    )


def _too_large(found: Collected, limits: Limits) -> str:
    caps = {
        "bytes": f"{limits.artifact_bytes:,} bytes",
        "files": f"{limits.artifact_files:,} files",
        "entries": f"{collected.MAX_ENTRIES:,} directory entries",
    }
    what = "the output that artifacts chooses" if found.folder == "." else f"the output folder {found.folder}"
    return f"{what} holds more than {caps.get(str(found.over), 'is allowed')}; nothing is kept"
