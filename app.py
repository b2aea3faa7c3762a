"""The HTTP API: parse, call, answer. What a request means is decided in intake.py and store; no business logic here."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from bottle import Bottle, HTTPError, request, response

import intake
import upkeep
from api import batch, joblog, meter, openapi, outflow, reference, wire
from api.answers import answering, created, file_answer, idempotency_key, json_answer, now, problem
from api.browsers import Origins
from api.bundle import Bundles
from api.deliveries import Deliveries
from api.exposition import Exposition
from api.functions import Functions
from api.guard import Guard, caller, own
from api.handover import AT_STOP
from api.health import Health
from api.keys import Keys
from api.listing import Listing
from api.live import Live
from api.operations import Operations
from api.preview import Previews
from api.query import Query
from api.schedules import Schedules
from api.sending import Sending
from api.streams import Streams
from api.watch import Watch
from artifacts import Shelf
from clock import Clock
from config import VERSION, Settings
from earlier import Earlier
from errors import ArtifactNotFound, ChefError, DiskLow, StoreUnavailable
from inbox import Inbox
from jobs import Artifact, Job, Request, Status, iso
from metrics import Tally
from store import Store, Submitted
from submission import Options

log = logging.getLogger(__name__)

#: The longest wait for one read or write on a connection (s). A body that stalls this long is answered 408.
IO_SECONDS = 10.0
#: How long Redis may take for one answer (s): a caller hears of its absence within a second, and asks again.
STORE_SECONDS = 0.8
#: Tells gunicorn that the application cannot be loaded, so that it ends instead of trying for ever.
UNLOCKED_EXIT = 4

#: What answers carry where no handler was reached.
UNROUTED = {
    400: "host_missing",
    403: "origin_refused",
    404: "not_found",
    405: "method_not_allowed",
    421: "host_refused",
}

#: What is taken for a job's id: anything but the names that stand at its place.
JOB_ID = r"<job_id:re:(?!(?:batch|replay)(?:/|$))[^/]+>"

Submit = Callable[[Request, Options], Submitted]


def wsgi() -> Bottle:
    """The service as gunicorn loads it: settings from the environment, jobs enqueued through Huey."""
    import tasks  # noqa: PLC0415  (reads the environment; importing this module needs none)

    tasks.require_suitable_store()
    store = tasks.open_store(timeout_s=STORE_SECONDS, retries=0)
    require_lock(tasks.settings, store)
    tasks.huey.store = store  # a caller waits: submissions are as impatient as reads
    upkeep.reporter(store, tasks.tally).start()
    return create_app(tasks.settings, store, tasks.shelf, tasks.submit, tally=tasks.tally)


def require_lock(settings: Settings, store: Store) -> None:
    """End the process if it would serve a network without any API key; say so if it serves this machine without one."""
    try:
        if store.find_key("")[1]:
            return
    except StoreUnavailable as error:
        log.warning("%s", error)  # the guard lets nobody in while it does not know
        return
    if settings.is_loopback or settings.allow_anonymous:
        who = "everybody who reaches it" if settings.allow_anonymous else "this machine alone"
        log.warning("There are no API keys: %s may do everything (see docs/api-access.md)", who)
        return
    log.critical(
        "%s is a network, and there are no API keys: anybody could run code here. Make one with `python cli.py keys "
        "create --scope admin`, or set HOST=127.0.0.1, or ALLOW_ANONYMOUS=true.", settings.publish or settings.host
    )  # fmt: skip
    os._exit(UNLOCKED_EXIT)


def create_app(
    settings: Settings,
    store: Store,
    shelf: Shelf,
    submit: Submit,
    io_seconds: float = IO_SECONDS,
    tally: Tally | None = None,
) -> Bottle:
    """The API over its parts. `submit` stores a job and returns its record; `tally` counts requests."""
    app = Bottle()
    app.uninstall(True)  # its plugins turn dicts into answers; ours are bytes already
    known = routes(settings, store, shelf, submit)
    guard = Guard(store, settings.conditions)
    origins = Origins(settings.conditions.hosts, settings.conditions.origins)
    for method, path, handler, scope in known.table:
        path = path.replace("<job_id>", JOB_ID)  # noqa: PLW2901
        answer = answering(guard.over(scope, handler))
        for prefix in ("/api", "/api/v1") if path.startswith("/api") else ("",):
            app.route(path.replace("/api", prefix, 1), method, answer, scope=scope)
    app.default_error_handler = _unrouted
    app.add_hook("before_request", functools.partial(_begin, io_seconds))
    app.add_hook("before_request", lambda: known.lead(request.environ))
    app.add_hook("before_request", origins.admit)
    app.add_hook("after_request", functools.partial(_end, tally or Tally(), guard, origins))
    return app


class Routes(NamedTuple):
    """Every route (method, path, what answers, and the scope of the key that it wants), and their description.

    `lead` changes the path of a request before it is routed.
    """

    table: list[openapi.Route]
    description: dict[str, Any]
    lead: Callable[[dict[str, Any]], None]


def routes(settings: Settings, store: Store, shelf: Shelf, submit: Submit) -> Routes:
    """The parts of the API, put together; nothing is opened."""
    watch, streams = onlookers(settings, store)
    log_of, listing, live = joblog.JobLogs(store), Listing(store), Live(store, watch, streams)
    api = Api(settings, store, shelf, submit, watch)
    operate = Operations(store, shelf)
    delivered = Deliveries(store, settings.endpoints)
    planned = Schedules(store, Clock(store, submit, settings.bounds), settings.bounds, settings.body_bytes)
    health = Health(store, shelf, settings.min_free_disk)
    exposed = Exposition(store, shelf, VERSION)
    trees = Shelf(settings.data_dir / "functions")
    named = Functions(store, trees, watch, api.submit, settings.bounds, settings.body_bytes, settings.function_quota)
    bundles = Bundles(settings, store)
    previews = Previews(settings, store, shelf)
    keys = Keys(store)
    description = Description()
    table: list[openapi.Route] = [
        ("GET", "/", api.about, "open"),
        ("GET", "/livez", health.live, "open"),
        ("GET", "/readyz", health.ready, "open"),
        ("GET", "/api/health", health.health, "open"),
        ("GET", "/api/workers", health.workers, "operate all"),
        ("POST", "/api/workers/<worker>/drain", health.drain, "operate all"),
        ("POST", "/api/workers/<worker>/resume", health.resume, "operate all"),
        ("GET", "/metrics", exposed.metrics, "operate all"),
        ("GET", "/api/stats", api.stats, "read"),
        ("POST", "/api/jobs", api.create_job, "submit"),
        ("PUT", "/api/uploads", api.sending.upload, "submit"),
        ("GET", "/api/jobs", listing.jobs, "read"),
        ("POST", "/api/jobs/batch", api.create_jobs, "submit"),
        ("GET", "/api/jobs/<job_id>", api.job, "read"),
        ("GET", "/api/jobs/<job_id>/logs", log_of.log, "read"),
        ("GET", "/api/jobs/<job_id>/events", live.of_job, "read"),
        ("GET", "/api/events", live.of_all, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts", api.artifacts, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts.tar.gz", api.archive, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts.zip", api.zip_archive, "read"),
        ("GET", r"/api/jobs/<job_id>/artifacts/<path:re:[\s\S]+>", api.artifact, "read"),
        ("GET", "/api/jobs/<job_id>/bundle", bundles.bundle, "submit"),
        ("POST", "/api/jobs/<job_id>/preview", previews.make, "read"),
        ("GET", "/preview/<ticket>", previews.show, "open"),
        ("GET", r"/preview/<ticket>/<path:re:[\s\S]*>", previews.show, "open"),
        ("POST", "/api/jobs/<job_id>/cancel", operate.cancel, "submit"),
        ("POST", "/api/jobs/<job_id>/rerun", operate.rerun, "submit"),
        ("DELETE", "/api/jobs/<job_id>", operate.remove, "submit"),
        ("GET", "/api/dead-letters", operate.dead_letters, "operate"),
        ("POST", "/api/dead-letters/replay", operate.replay_all, "operate"),
        ("POST", "/api/dead-letters/<job_id>/replay", operate.replay, "operate"),
        ("DELETE", "/api/dead-letters/<job_id>", operate.discard, "operate"),
        ("POST", "/api/queues/<queue>/pause", operate.pause, "operate all"),
        ("POST", "/api/queues/<queue>/drain", operate.drain, "operate all"),
        ("POST", "/api/queues/<queue>/resume", operate.resume, "operate all"),
        ("GET", "/api/schedules", planned.listed, "read"),
        ("POST", "/api/schedules", planned.create, "submit"),
        ("GET", "/api/schedules/<schedule_id>", planned.one, "read"),
        ("DELETE", "/api/schedules/<schedule_id>", planned.remove, "submit"),
        ("POST", "/api/schedules/<schedule_id>/pause", planned.pause, "submit"),
        ("POST", "/api/schedules/<schedule_id>/resume", planned.resume, "submit"),
        ("POST", "/api/schedules/<schedule_id>/run", planned.run, "submit"),
        ("GET", "/api/functions", named.listed, "read"),
        ("GET", "/api/functions/<name>", named.one, "read"),
        ("PUT", "/api/functions/<name>", named.put, "submit"),
        ("DELETE", "/api/functions/<name>", named.remove, "submit"),
        ("POST", "/api/functions/<name>/invoke", named.invoke, "submit"),
        ("POST", "/api/functions/<name>/rollback", named.roll_back, "submit"),
        ("GET", "/api/jobs/<job_id>/deliveries", delivered.of_job, "read"),
        ("GET", "/api/deliveries", delivered.listed, "operate"),
        ("POST", "/api/deliveries/<delivery_id>/resend", delivered.resend, "operate"),
        ("POST", "/api/webhooks/test", delivered.test, "operate all"),
        ("POST", "/api/webhooks/<name>/enable", delivered.enable, "operate all"),
        ("GET", "/api/keys", keys.listed, "admin"),
        ("POST", "/api/keys", keys.create, "admin"),
        ("DELETE", "/api/keys/<key_id>", keys.revoke, "admin"),
        ("GET", "/api/openapi.json", description.json, "open"),
        ("GET", "/docs", description.page, "open"),
    ]
    description.document = openapi.document(table, settings.bounds, VERSION, settings.max_wait)
    return Routes(table, description.document, previews.lead)


def onlookers(settings: Settings, store: Store) -> tuple[Watch, Streams]:
    """Who watches what happens to jobs, and who shows it; both end with the server."""
    watch, streams = Watch(store, settings.max_waiting), Streams(store, settings.max_streams)
    watch.onlooker = streams.tell
    AT_STOP.extend((watch.stop, streams.stop))
    return watch, streams


class Description:
    """The description of the API: for programs, and as a page."""

    document: dict[str, Any]

    def json(self) -> bytes:
        """This API, described as OpenAPI 3.1."""
        return json_answer(self.document)

    def page(self) -> bytes:
        """This API, described for people."""
        response.content_type = "text/html; charset=utf-8"
        response.set_header("Content-Security-Policy", reference.POLICY)
        return reference.page(self.document)


class Api:
    """One method for each route, in the order of the table above."""

    def __init__(self, settings: Settings, store: Store, shelf: Shelf, submit: Submit, watch: Watch) -> None:
        """Keep the parts; nothing is opened."""
        self._endpoints = tuple(settings.endpoints)
        self._bounds = settings.bounds
        self._max_wait = settings.max_wait
        self._body_bytes = settings.body_bytes
        self._min_free_disk = settings.min_free_disk
        self._keep_ms = int(settings.keep_days * 86_400_000)
        self._keep_bytes = settings.keep_bytes
        self._same_request = settings.same_request_is_same_job
        self._store = store
        self._shelf = shelf
        self._submit = submit
        #: How jobs and their projects arrive.
        self.sending = Sending(
            settings,
            Inbox(settings.uploads_dir, settings.keep_upload_s, settings.uploads_max_bytes),
            Earlier(store, shelf),
            self._require_room,
        )
        self._watch = watch
        self._logs = joblog.JobLogs(store)

    def about(self) -> bytes:
        """What answers here."""
        return json_answer({"service": "Chef Workers", "version": VERSION, "status": "running", "timestamp": now()})

    def stats(self) -> bytes:
        """How many of the caller's jobs are in each state, per queue, and which queues are closed and why."""
        body = {"timestamp": now(), **self._store.closures().to_json()}
        if caller().sees_all:
            webhooks = {name: lane.to_json() for name, lane in self._store.lanes(self._endpoints).items()}
            body |= {"queues": self._store.stats(), "counters": self._store.counters(), "webhooks": webhooks}
        else:
            queues, counters = self._store.tenant_figures(caller().tenant)
            body |= {"queues": queues, "counters": counters}
        return json_answer(body)

    @meter.counting
    def create_job(self) -> bytes:
        """Take a submission: 201 for a new job, which is stored then; 200 if it means one that is there already."""
        seconds = self._wait_seconds()
        sent = self.sending.received()
        bring = self.sending.bring if sent.attached is None else lambda _: sent.attached
        wanted, options = intake.parse(sent.body, self._bounds, bring, sent.attached is not None)
        with self._watch.place(seconds):
            taken = self.submit(wanted, self._identified(options, sent.digest))
            response.set_header("Location", f"/api/jobs/{taken.job.id}")
            shown = self._ended(taken.job.id, seconds).to_json() if seconds else created(taken.job)
        return json_answer(shown, 201 if taken.created else 200)

    def create_jobs(self) -> bytes:
        """Take up to a hundred submissions: 200, and for each what it would have been answered alone."""
        Query().check()
        wire.require_json(request.environ)
        listed = batch.submissions(wire.read_body(request.environ, self._body_bytes))
        self._require_room()
        check = functools.partial(intake.check, bounds=self._bounds, bring=self.sending.bring)
        key = idempotency_key()
        identify = self._identified if not key else lambda options, digest: batch.keyed(options, key, digest)
        results = batch.submit(listed, check, identify, self._submit_all)
        return json_answer({"results": results, "created": sum(each["httpStatus"] == 201 for each in results)})

    def _submit_all(self, checked: list[batch.Checked]) -> list[Submitted | ChefError]:
        owner = caller().owner
        return self._store.submit_all([(wanted, dataclasses.replace(each, tenant=owner)) for wanted, each in checked])

    def submit(self, wanted: Request, options: Options) -> Submitted:
        """Take a caller's job in, if there is room on the disk. Raises DiskLow, and what tasks.submit raises."""
        self._require_room()
        taken = self._submit(wanted, dataclasses.replace(options, tenant=caller().owner, rates=meter.due()))
        meter.tell(taken.taken)
        return taken

    def job(self, job_id: str) -> bytes:
        """The record of a job; of one that waits, also why."""
        asked = Query()
        seconds, included = asked.wait_seconds(self._max_wait), asked.words("include", ("logs", "result"))
        asked.check()
        job = self._job(job_id)
        if seconds and not job.status.is_final:
            with self._watch.place(seconds):
                job = self._ended(job_id, seconds)
        record = job.to_json()
        if job.status is Status.PENDING and (waiting := self._store.waiting(job_id)):
            record["waiting"] = waiting.to_json()
        if "logs" in included:
            record["logs"]["text"] = self._logs.end_of(job)
        return json_answer(record)

    def artifacts(self, job_id: str) -> bytes:
        """What the job produced, with where to get it and until when; and how much all jobs keep, of what they may."""
        job = self._job(job_id)
        base = f"/api/jobs/{job.id}/artifacts/"
        listed = [
            {**artifact, "type": wire.content_type(artifact["path"]), "href": base + quote(artifact["path"])}
            for artifact in job.artifacts
        ]
        total = sum(artifact["size"] for artifact in job.artifacts)
        kept = {"keptBytes": self._kept_bytes(), "quotaBytes": self._keep_bytes or None}
        expires = iso(job.finished_ms + self._keep_ms) if self._keep_ms and job.finished_ms else None
        return json_answer({"jobId": job.id, "artifacts": listed, "totalBytes": total, "expiresAt": expires, **kept})

    def _kept_bytes(self) -> int:
        who = caller()
        return self._store.kept_bytes() if who.sees_all else self._store.tenant_figures(who.tenant)[1].get("bytes", 0)

    def archive(self, job_id: str) -> Iterable[bytes]:
        """All artifacts as one compressed tar file, made while it is sent."""
        job = self._job(job_id)
        blocks = self._shelf.tar_gz(job.id, job.fence, _kept(job))
        return _attached(blocks, f"{job.id}.tar.gz", "application/gzip")

    def zip_archive(self, job_id: str) -> Iterable[bytes]:
        """The same as a zip."""
        job = self._job(job_id)
        return _attached(self._shelf.zip(job.id, job.fence, _kept(job)), f"{job.id}.zip", "application/zip")

    def artifact(self, job_id: str, path: str) -> Iterable[bytes]:
        """One file, or the range of it that is asked for; 304 if the caller has it."""
        job = self._job(job_id)
        found = next((artifact for artifact in job.artifacts if artifact["path"] == path), None)
        if found is None:
            raise ArtifactNotFound(f"Job {job.id} has no artifact of this path.")
        etag = f'"{found["sha256"]}"'
        response.set_header("ETag", etag)
        response.set_header("Cache-Control", "private, no-cache")
        if wire.is_unchanged(request.get_header("If-None-Match", ""), etag):
            response.status = 304
            return []
        response.set_header("Content-Disposition", wire.attachment(path))
        return file_answer(self._shelf.open_file(job.id, job.fence, found["sha256"]), path, found["size"], etag)

    def _require_room(self) -> None:
        """Refuse new jobs before the disk is full: Redis ends when it cannot sync, and takes running jobs with it."""
        free = self._shelf.free_bytes()
        if free < self._min_free_disk:
            room = (
                f"The disk has {free >> 20:,} MB left, less than the {self._min_free_disk >> 20:,} MB of MIN_FREE_DISK"
            )
            raise DiskLow(f"{room}; no new jobs until some were removed.")

    def _identified(self, options: Options, digest: str) -> Options:
        """With what tells this submission from others: the caller's key, or else the body's `digest`."""
        key = idempotency_key()
        if not key:
            return dataclasses.replace(options, fingerprint=digest if self._same_request else "")
        return dataclasses.replace(options, idempotency_key=key, body_hash=digest)

    def _wait_seconds(self) -> int:
        asked = Query()
        seconds = asked.wait_seconds(self._max_wait)
        asked.check()
        return seconds

    def _ended(self, job_id: str, seconds: int) -> Job:
        """The job once it has ended, or as it is when the time is over."""
        response.set_header("Preference-Applied", f"wait={seconds}")
        return self._watch.end_of(job_id, seconds)

    def _job(self, job_id: str) -> Job:
        return own(self._store, job_id)


def _kept(job: Job) -> list[Artifact]:
    return [Artifact(**artifact) for artifact in job.artifacts]


def _attached(blocks: Iterable[bytes], name: str, media_type: str) -> Iterable[bytes]:
    """`blocks` as a file that a browser saves."""
    response.content_type = media_type
    response.set_header("Content-Disposition", wire.attachment(name))
    return outflow.downloads.hold(blocks)


def _unrouted(error: HTTPError) -> bytes:
    """The answer where no handler was reached (405 has its Allow), or an answer's body could not begin (500)."""
    code = UNROUTED.get(error.status_code, "internal_error")
    if code == "internal_error":
        log.error("request %s failed", request.environ["chef.request_id"], exc_info=error.exception)
        _add_headers()
    return problem(code)


# --- every request ----------------------------------------------------------------------------------------------------


def _begin(io_seconds: float) -> None:
    request.environ["chef.began"] = time.perf_counter()
    request.environ["chef.request_id"] = wire.request_id(request.environ)
    wire.bound_waits(request.environ, io_seconds)


def _end(tally: Tally, guard: Guard, origins: Origins) -> None:
    wire.forget_unread_body(request.environ)
    _add_headers()
    origins.tell()
    seconds = time.perf_counter() - request.environ["chef.began"]
    route = request.environ["bottle.route"].rule if "bottle.route" in request.environ else "none"
    method = request.method if route != "none" else "other"  # whoever asks could make up any number of them
    tally.count("http_requests", method, route, str(response.status_code))
    tally.observe("http_request_seconds", seconds, method, route)
    event = {
        "method": request.method,
        "path": request.environ["bottle.raw_path"][:500],
        "status": response.status_code,
        "ms": round(seconds * 1000, 2),
        "request": request.environ["chef.request_id"],
        **guard.seen(),
    }
    log.info("request", extra=event)


def _add_headers() -> None:
    for name, value in wire.SECURITY_HEADERS:
        if name not in response:
            response.set_header(name, value)
    response.set_header("X-Request-Id", request.environ["chef.request_id"])
