"""The HTTP API, put together: its routes and who may use them, and what is done around every request."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bottle import Bottle, HTTPError, request, response

import upkeep
from api import joblog, openapi, reference, spans, wire
from api.answers import answering, json_answer, problem
from api.browsers import Origins
from api.bundle import Bundles
from api.deliveries import Deliveries
from api.exposition import Exposition
from api.functions import Functions
from api.guard import Guard
from api.handover import AT_STOP
from api.health import Health
from api.jobs import Jobs, Submit
from api.keys import Keys
from api.listing import Listing
from api.live import Live
from api.operations import Operations
from api.preview import Previews
from api.schedules import Schedules
from api.streams import Streams
from api.watch import Watch
from artifacts import Shelf
from clock import Clock
from config import VERSION, Settings
from errors import StoreUnavailable
from metrics import Tally
from store import Store
from tracing import Tracing

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


def wsgi() -> Bottle:
    """The service as gunicorn loads it: settings from the environment, jobs enqueued through Huey."""
    import tasks  # noqa: PLC0415  (reads the environment; importing this module needs none)

    tasks.count_here("api")
    tasks.require_suitable_store()
    store = tasks.open_store(timeout_s=STORE_SECONDS, retries=0)
    require_lock(tasks.settings, store)
    tasks.huey.store = store  # a caller waits: submissions are as impatient as reads
    upkeep.reporter(store, tasks.tally).start()
    return create_app(tasks.settings, store, tasks.shelf, tasks.submit, tally=tasks.tally, traces=tasks.traces)


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
    traces: Tracing | None = None,
) -> Bottle:
    """The API over its parts. `submit` stores a job and returns its record; `tally` counts requests, `traces` tells
    of them.
    """
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
    app.add_hook("before_request", functools.partial(_begin, io_seconds, traces or Tracing()))
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
    taken = Jobs(settings, store, shelf, submit, watch)
    operate = Operations(store, shelf)
    delivered = Deliveries(store, settings.endpoints)
    planned = Schedules(store, Clock(store, submit, settings.bounds), settings.bounds, settings.body_bytes)
    health = Health(store, shelf, settings.min_free_disk, settings.endpoints)
    exposed = Exposition(store, shelf, VERSION)
    trees = Shelf(settings.data_dir / "functions")
    named = Functions(store, trees, watch, taken.submit, settings.bounds, settings.body_bytes, settings.function_quota)
    bundles = Bundles(settings, store)
    previews = Previews(settings, store, shelf)
    keys = Keys(store)
    description = Description()
    table: list[openapi.Route] = [
        ("GET", "/", health.about, "open"),
        ("GET", "/livez", health.live, "open"),
        ("GET", "/readyz", health.ready, "open"),
        ("GET", "/api/health", health.health, "open"),
        ("GET", "/api/workers", health.workers, "operate all"),
        ("POST", "/api/workers/<worker>/drain", health.drain, "operate all"),
        ("POST", "/api/workers/<worker>/resume", health.resume, "operate all"),
        ("GET", "/metrics", exposed.metrics, "operate all"),
        ("GET", "/api/stats", health.stats, "read"),
        ("POST", "/api/jobs", taken.create_job, "submit"),
        ("PUT", "/api/uploads", taken.sending.upload, "submit"),
        ("GET", "/api/jobs", listing.jobs, "read"),
        ("POST", "/api/jobs/batch", taken.create_jobs, "submit"),
        ("GET", "/api/jobs/<job_id>", taken.job, "read"),
        ("GET", "/api/jobs/<job_id>/logs", log_of.log, "read"),
        ("GET", "/api/jobs/<job_id>/events", live.of_job, "read"),
        ("GET", "/api/events", live.of_all, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts", taken.artifacts, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts.tar.gz", taken.archive, "read"),
        ("GET", "/api/jobs/<job_id>/artifacts.zip", taken.zip_archive, "read"),
        ("GET", r"/api/jobs/<job_id>/artifacts/<path:re:[\s\S]+>", taken.artifact, "read"),
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


def _unrouted(error: HTTPError) -> bytes:
    """The answer where no handler was reached (405 has its Allow), or an answer's body could not begin (500)."""
    code = UNROUTED.get(error.status_code, "internal_error")
    if code == "internal_error":
        log.error("request %s failed", request.environ["chef.request_id"], exc_info=error.exception)
        _add_headers()
    return problem(code)


# --- every request ----------------------------------------------------------------------------------------------------


def _begin(io_seconds: float, traces: Tracing) -> None:
    request.environ["chef.began"] = time.perf_counter()
    request.environ["chef.request_id"] = wire.request_id(request.environ)
    spans.begin(traces, {"http.request.method": request.method, "chef.request.id": request.environ["chef.request_id"]})
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
    told = {"http.route": route, "http.response.status_code": response.status_code}
    traced = spans.end(f"{method} {route}", told, "" if response.status_code < 500 else response.status_line)
    if not log.isEnabledFor(logging.INFO):
        return
    event = {
        "method": request.method,
        "path": request.environ["bottle.raw_path"][:500],
        "status": response.status_code,
        "ms": round(seconds * 1000, 2),
        "request": request.environ["chef.request_id"],
        **guard.seen(),
        **traced,
    }
    log.info("request", extra=event)


def _add_headers() -> None:
    given = response.headers.dict
    for name, value in wire.SECURITY_HEADERS:
        given.setdefault(name, [value])
    response.set_header("X-Request-Id", request.environ["chef.request_id"])
