"""The story of one job: claim, run, record, notify. The Huey instance, and the upkeep around it.

huey_consumer tasks.huey -k thread -w SLOTS+1 -g TERM -t GRACE
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import functools
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from huey import crontab
from huey.signals import SIGNAL_INTERRUPTED

import config
import logs
import retry
import reuse
import tracing
import upkeep
from artifacts import Shelf, Writer
from attempt_spans import AttemptSpans, span_of_submission
from clock import Clock
from consumer import JobHuey
from delivery import Courier
from errors import (
    ArtifactNotFound,
    EngineFault,
    JobNotFound,
    LeaseLost,
    RunStopped,
    StorageFailed,
    StoreUnavailable,
    StoreUnsuitable,
)
from events import DEFAULT_ENDPOINT
from executor import EgressRules, Executor, Larder, Wish
from executor.images import Images
from inbox import Inbox
from jobs import Artifact, Conclusion, Job, Limits, OutputChunk, Phase, Reason, Request, Result, Status, iso
from journal import Journal
from lease import Lease, Stop
from metrics import Tally
from neighbours import word
from payload import Form
from store import AT_FAILURE, Retention, Rules, Store, Submitted
from submission import Options
from upkeep import Footing, Pulse
from uploads import Uploads
from versions import Versions

log = logging.getLogger(__name__)

BEAT_S = 1.0  # also how soon a running job hears of its cancellation
BEATS_PER_LEASE = 10  # at least: a lease as short as a beat would run out under a living worker
COURIER_S = 2.0  # what is being posted at the end may finish; what is cut off is posted again
UNSUITABLE_EXIT = 4
#: No claims after a fault of the engine: one that is being restarted still answers, for up to 15 s, while it refuses
#: containers, and three attempts must not all fall into that time.
ENGINE_REST_S = 10.0
HAND_BACK_S = 10.0  # containers die in well under a second each; then the jobs are given back
RECORD_S = 120.0  # how long an end that Redis does not take is offered again; the containers are gone by then

settings = config.load_or_exit()
logs.configure(settings.log_level, settings.log_format, settings.secret_values)
STARTED_MS = time.time_ns() // 1_000_000
OWNER = f"{socket.gethostname()}:{os.getpid()}"


def open_store(**patience: Any) -> Store:
    """A store of this service; `patience` is what Store takes as timeout_s and retries."""
    return Store(
        settings.redis_url,
        prefix=settings.redis_prefix,
        lease_ms=settings.lease_ms,
        notify=DEFAULT_ENDPOINT in settings.endpoints,
        rules=Rules(
            chat_limit=settings.max_concurrent_per_chat,
            queue_bound=settings.max_queued_jobs,
            ageing_ms=int(settings.ageing_seconds * 1000),
            events=settings.told_events,
            quota_queued=settings.quota_queued_jobs,
            quota_cpu_ms=settings.quota_cpu_seconds * 1000,
            quota_bytes=settings.quota_bytes,
        ),
        **patience,
    )


store = open_store()
tally = Tally()
#: Spans, if there is a collector. Its thread begins here, in the process that serves: gunicorn has forked by now.
traces = tracing.opened(
    settings.otel_exporter_otlp_endpoint, settings.otel_headers, settings.otel_service_name, config.VERSION
)
#: What a run says while it owns its job. It asks again by itself, and must notice a silence before its lease is over:
#: a third of the lease is left when it gives up, a call takes at most twice its timeout.
live = open_store(timeout_s=min(2.0, settings.lease_seconds / 12), retries=0)
shelf = Shelf(settings.data_dir / "artifacts")
versions = Versions(store, Shelf(settings.data_dir / "functions"), settings.function_quota, settings.function_max_bytes)
inbox = Inbox(settings.uploads_dir, settings.keep_upload_s, settings.uploads_max_bytes)
executor = Executor(
    settings.docker_host,
    Images(settings.data_dir / "images"),
    service=settings.service,
    rules=EgressRules(*settings.egress),
    wish=Wish(
        settings.sandbox_runtime,
        settings.worker_workspace,
        settings.max_concurrent_workers,
        settings.parked,
        settings.memory_budget or 0,
        settings.cpu_budget or 0.0,
        settings.kept_sandboxes,
        settings.kept_sandbox_minutes * 60,
    ),
    tally=tally,
    larder=Larder(
        settings.data_dir / "dependencies", settings.dependency_cache_bytes, settings.dependency_cache_days * 86_400
    ),
)
policy = retry.Policy(settings.retry_attempts, settings.retry_base_seconds, settings.retry_cap_seconds)
huey = JobHuey(
    "chef",
    store=store,
    owner=OWNER,
    slots=settings.max_concurrent_workers,
    url=settings.redis_url,
    slot_is_free=executor.is_free,
)
courier = Courier(
    store,
    settings.endpoints,
    Form(settings.webhook_profile, settings.public_url or ""),
    Uploads(store, shelf, settings.convex_upload),
    traces,
)
retention = Retention(
    max_age_ms=int(settings.keep_days * 86_400_000), max_jobs=settings.keep_jobs, max_bytes=settings.keep_bytes
)
running: dict[str, Lease] = {}
engine_away = threading.Event()


def facts() -> dict[str, Any]:
    """What this worker says of itself."""
    engine = "does not answer" if engine_away.is_set() else "answers"
    known = {"version": config.VERSION, "startedAt": iso(STARTED_MS), "engine": engine, "sandbox": footing.lacks}
    return known | {"parked": executor.parked}


footing = Footing(lambda: executor.remarks(settings.limits))
pulse = Pulse(store, OWNER, settings.max_concurrent_workers, settings.lease_seconds / 3, tally, facts)


def count_here(process: str) -> None:
    """Count the calls that Redis fails as those of this process, api or worker; hand in the last figures at its end."""
    AT_FAILURE[:] = [functools.partial(tally.count, "redis_errors", process)]
    atexit.unregister(hand_in_last)
    atexit.register(hand_in_last)


def hand_in_last() -> None:
    """What was counted since the last time; without Redis it is lost."""
    with contextlib.suppress(StoreUnavailable):
        upkeep.hand_in(live, tally)


def submit(request: Request, options: Options) -> Submitted:
    """Enqueue a job; when this returns it is stored. Raises StoreUnavailable, QueueFull, IdempotencyConflict."""
    span, trace = span_of_submission(traces, options.trace)
    if trace != options.trace:
        options = dataclasses.replace(options, trace=trace)
    try:
        taken: Submitted = run_job(request, options, priority=request.priority)
    finally:
        if span:
            span.end()
    return taken


clock = Clock(store, submit, settings.bounds)


@huey.job_task(priority=5, retries=policy.attempts - 1, retry_delay=policy.base_s, retry_backoff=2)
def run_job(job: Job, slot: int) -> None:
    """The story of one claimed job: run it while its lease is held, then record how it ended.

    The record brings the webhook with it; delivery.py sends it.
    """
    spans = AttemptSpans(traces, job, slot)
    with logs.bound(job=job.id, attempt=job.attempt, **spans.about), held_lease(job) as lease:
        log.info("attempt starts", extra={"type": job.type.value, "slot": slot})
        result = None
        try:
            result = run_attempt(job, slot, lease, spans)
            record(job, result)
        except RunStopped:
            end_stopped(job, lease)
        finally:
            spans.end(result, lease.stop_reason.value if lease.stop_reason else "")


def run_attempt(job: Job, slot: int, lease: Lease, spans: AttemptSpans) -> Result:
    """Run the job once. What fails on our side is a result as well: its reason decides whether it is tried again.

    Raises:
        RunStopped: The lease said so; nothing of the run is left.
    """
    try:
        request = store.request(job.id)
        work = fingerprint(job, request)
        return (work and done_before(job, work, lease)) or run_anew(job, request, work, slot, lease, spans)
    except ArtifactNotFound:
        gone = Reason.FUNCTION_REMOVED
        return Result(gone.conclusion, gone, "the version of the function was removed before it was called")
    except (EngineFault, StorageFailed) as fault:
        if isinstance(fault, EngineFault):
            tally.count("docker_errors", fault.reason)
        if fault.reason == Reason.RUNTIME_UNAVAILABLE and not lease.stopped:  # else others removed its containers
            engine_away.set()
            huey.rest(ENGINE_REST_S)
        return Result(Conclusion.ERROR, Reason(fault.reason), str(fault))
    except RunStopped:
        raise
    except Exception as error:
        log.exception("job %s: the worker failed", job.id)
        return Result(Conclusion.ERROR, Reason.INTERNAL_ERROR, f"{type(error).__name__} in the worker; see its log")


def run_anew(job: Job, request: Request, work: str | None, slot: int, lease: Lease, spans: AttemptSpans) -> Result:
    """Run the job in the executor; its success may be used again. Raises as run_attempt's parts do."""
    makes_version = request.call is not None and request.call.makes_version
    files = versions.writer(job) if makes_version else shelf.open(job.id, job.fence)
    tree = versions.tree(request.call)
    with Journal(lambda: lease.stopped, job.id) as journal:
        watch = Watch(job, lease, files, journal, spans)
        result = executor.run(job, request, limits_of(job, request), slot, watch, tree)
    if work and result.conclusion is Conclusion.SUCCESS:
        store.remember_result(work, job.id, int(settings.result_cache_hours * 3_600))
    return versions.settled(job, request.call, result) if request.call and makes_version else result


def fingerprint(job: Job, request: Request) -> str | None:
    """Under which name this work may be found again; None if it may not. Raises EngineFault."""
    return reuse.fingerprint(job, request, executor.job_images()) if settings.result_cache_hours else None


def done_before(job: Job, work: str, lease: Lease) -> Result | None:
    """The result of an earlier job that did the same, with its files; None if there is none that is whole."""
    try:
        earlier = store.get(store.known_result(work) or "")
        if earlier.status is not Status.COMPLETED:
            return None
        artifacts, writer = reuse.artifacts_of(earlier), shelf.open(job.id, job.fence)
        shelf.link(earlier.id, earlier.fence, writer, artifacts)
    except (JobNotFound, ArtifactNotFound):
        tally.count("cache_misses", "results")
        return None
    tally.count("cache_hits", "results")
    note = f"{earlier.id} did the same work with success; its result is used (cache off in the request refuses that)\n"
    said = OutputChunk(job.log_lines, 1, time.time_ns() // 1_000_000, Phase.PREPARING, "system", note)
    with Journal(lambda: lease.stopped, job.id) as journal:
        Watch(job, lease, writer, journal).output(said)
    return reuse.reused(earlier, artifacts)


def limits_of(job: Job, request: Request) -> Limits:
    """What this attempt may use: what the job asked for, and more memory than the ones before had, if they ran out."""
    usual = settings.limits.changed(request.limits)
    memory = retry.memory_bytes(job, usual.memory_bytes, settings.max_memory_limit)
    limits = dataclasses.replace(usual, memory_bytes=memory)
    return versions.limits(limits) if request.call and request.call.makes_version else limits


def record(job: Job, result: Result) -> None:
    """Make the end of this attempt known, and keep the files of no other. A run that lost its job changes nothing."""
    again = retry.decide(job, result, policy)
    offered_until = time.monotonic() + RECORD_S
    try:
        kept = persist(lambda: live.finish(job.id, job.fence, result, again), lambda: time.monotonic() > offered_until)
    except LeaseLost:
        log.warning("job %s: attempt %s lost its lease, its result is dropped", job.id, job.attempt)
        return
    if not kept:
        log.error("job %s: the store was away too long to record its end; it runs again when its lease is over", job.id)
        return
    how = {"conclusion": result.conclusion.value, "reason": result.reason and result.reason.value}
    log.info("attempt ended", extra=how | {"retry": again.why} if again else how)
    for phase in result.phases:
        tally.observe("job_phase_seconds", phase.duration_ms / 1000, job.type, phase.name)
    if again is None:
        with contextlib.suppress(StorageFailed):  # retention comes by again
            shelf.remove_attempts_except(job.id, job.fence)


def end_stopped(job: Job, lease: Lease) -> None:
    """The run was stopped and its containers are gone: say so, give the job back, or leave it to its new owner."""
    log.info("attempt stopped", extra={"why": lease.stop_reason and lease.stop_reason.value})
    if lease.stop_reason is Stop.CANCELLED:
        reason = word(Reason, store.get(job.id).cancel_reason or Reason.CANCELLED)
        record(job, Result(Conclusion.CANCELLED, reason, "Cancelled while it ran."))
    elif lease.stop_reason is Stop.SHUTDOWN:
        with contextlib.suppress(LeaseLost):
            store.release(job.id, job.fence)


class Watch:
    """What the executor reports to while a job runs: each write carries the fence, so a stale run changes nothing."""

    def __init__(
        self, job: Job, lease: Lease, files: Writer, journal: Journal, spans: AttemptSpans | None = None
    ) -> None:
        """`files` takes the artifacts of this attempt, `journal` what it says; `spans` hears when a phase begins."""
        self._spans = spans
        self._job = job
        self._lease = lease
        self._files = files
        self._journal = journal
        #: Nothing more can be written, and nobody is to wait for it.
        self._silent = False

    def output(self, chunk: OutputChunk) -> None:
        """Append to the job's log."""
        if chunk.dropped_bytes:
            tally.count("log_dropped_bytes", by=chunk.dropped_bytes)
        self._journal.put(lambda: self._write(lambda: live.append_log(self._job.id, self._job.fence, [chunk])))

    def progress(self, percent: int, phase: Phase) -> None:
        """Show how far the job is."""
        if self._spans:
            self._spans.phase(phase)
        self._journal.put(lambda: self._write(lambda: live.progress(self._job.id, self._job.fence, percent, phase)))

    def stopped(self) -> bool:
        """True once the run must stop."""
        return self._lease.stopped

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Store one output file."""
        return self._files.keep(path, blocks)

    def _write(self, write: Callable[[], None]) -> None:
        if self._silent:
            return
        try:
            self._silent = not persist(write, lambda: self._lease.stopped)
        except LeaseLost:
            self._silent = True
            self._lease.stop(Stop.LOST)


def persist(write: Callable[[], None], given_up: Callable[[], bool]) -> bool:
    """Write to the store, at least once, waiting through an outage until `given_up()`; True if it is written.

    Raises:
        LeaseLost: The run is stale.
    """
    while True:
        try:
            write()
            return True
        except StoreUnavailable as error:
            if given_up():
                return False
            log.warning("writing again: %s", error)
            again_at = time.monotonic() + random.uniform(0.2, 0.8)  # noqa: S311  (spread the reconnects)
            while time.monotonic() < again_at and not given_up():
                time.sleep(0.02)  # in short steps: a run that must stop may not sleep past the end of its lease


@contextmanager
def held_lease(job: Job) -> Iterator[Lease]:
    """The lease of a claimed job, known to a graceful stop while it is held."""
    renew = functools.partial(live.beat, job.id, job.fence)
    every_s = min(BEAT_S, settings.lease_seconds / BEATS_PER_LEASE)
    with Lease(renew, every_s=every_s, give_up_s=settings.lease_seconds * 2 / 3, name=job.id) as lease:
        running[job.id] = lease
        try:
            yield lease
        finally:
            del running[job.id]


@huey.claim_if
def may_claim() -> bool:
    """False while this worker is drained, has no room for a usual job, or no engine to run it at."""
    return not pulse.drained and executor.has_room(settings.limits) and engine_is_there()


def engine_is_there() -> bool:
    """False from a run's fault on until the Docker Engine answers again: an engine that is away for a minute would
    otherwise use up the attempts of every job that waits.
    """
    if engine_away.is_set():
        try:
            executor.sweep(lambda job_id, fence: True)  # asks for our containers, and removes none
            engine_away.clear()
        except EngineFault as fault:
            log.warning("no job is started: %s", fault)
    return not engine_away.is_set()


@huey.signal(SIGNAL_INTERRUPTED)
def hand_back(signal: str, task: object) -> None:
    """The grace time is over: stop what still runs and give it back, without using an attempt.

    Huey calls this in its main thread just before the process ends, while the workers' threads go on. The one part
    of the story that happens in a hook, because Huey tells of the end nowhere else.
    """
    for lease in list(running.values()):
        lease.stop(Stop.SHUTDOWN)
    deadline = time.monotonic() + HAND_BACK_S
    while running and time.monotonic() < deadline:
        time.sleep(0.05)


@huey.on_startup()
def start() -> None:
    """Begin what goes on beside the jobs. Huey calls this in each worker thread; once is enough."""
    logs.take_over("huey")
    faulthandler.register(signal.SIGUSR1)  # the stacks of all threads, without stopping
    count_here("worker")
    require_suitable_store()
    pulse.start()
    clock.start()
    courier.start()
    threading.Thread(target=settle_in, name="settle in", daemon=True).start()  # an engine may take its time


@huey.on_shutdown()
def stop() -> None:
    """End it again, when the first of the worker threads ends."""
    clock.stop()
    pulse.stop()
    courier.stop(COURIER_S)
    executor.unpark()


def settle_in() -> None:
    """Learn what the engine lacks, and have sandboxes wait there. Nothing happens twice."""
    footing.look()
    try:
        executor.park(settings.limits)
    except EngineFault as fault:
        log.warning("no sandbox waits: %s", fault)


def require_suitable_store() -> None:
    """End the process if Redis cannot keep what is promised; one that does not answer yet may still turn out well."""
    try:
        store.check_suitable()
    except StoreUnsuitable as error:
        if settings.redis_unsuitable == "serve":
            log.warning("%s", error)
            return
        log.critical("%s (REDIS_UNSUITABLE=serve runs all the same)", error)
        os._exit(UNSUITABLE_EXIT)  # nothing runs yet; Huey would log an exception and go on
    except StoreUnavailable as error:
        log.warning("%s", error)


@huey.periodic_task(crontab(minute="*"))
def sweep() -> None:
    """Remove containers and volumes that no running attempt owns. Harmless when several consumers do it."""
    for name in executor.sweep(is_running):
        log.warning("orphan removed: %s", name)
    settle_in()  # if the engine was away at the start


@huey.periodic_task(crontab(minute="*"))
def prune() -> None:
    """Remove finished jobs that are too old or too many, and old uploads. Harmless when several consumers do it."""
    while upkeep.prune(store, shelf, retention):
        pass
    inbox.sweep()


def is_running(job_id: str, fence: int) -> bool:
    """True if this very attempt of a job is under way."""
    try:
        job = store.get(job_id)
    except JobNotFound:
        return False
    return job.status is Status.ACTIVE and job.fence == fence
