"""Takes due deliveries from the outbox and posts them, on threads of its own so that no job waits for a receiver."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

import logs
from errors import JobNotFound, LeaseLost, StoreUnavailable
from events import ENDS, Delivery, Endpoint, Event, Try
from jobs import Job
from payload import Form, Stored, news_body, result_body
from store import Store
from tracing import Place, Tracing
from uploads import Brought, Uploads
from webhook import Outcome, Sender, Verdict, retry_delay_ms

log = logging.getLogger(__name__)

PARALLEL = 4  # a self-hosted Convex proxy serves four HTTP actions at once
LEASE_MS = 30_000  # twice a delivery's own deadline: nobody else posts the same one meanwhile
LOG_TAIL_LINES = 40
LONGEST_WAIT_S = 1.0
#: So many tries of a result end with an upload that failed, and the next one comes soon. Later ones go without the
#: file: how a job ended matters more.
UPLOAD_TRIES = 1

Bring = Callable[[Job, Delivery], Brought]


class Posts(Protocol):
    """What makes one try: webhook.Sender, or Nowhere."""

    def post(self, message_id: str, path: str, body: bytes, trace: Mapping[str, str]) -> Outcome:
        """One try, with the headers of its trace; never raises for what the network or the receiver does."""
        ...


class Nowhere:
    """Stands for an endpoint that the settings do not name any more: it may come back, and its deliveries run out."""

    def post(self, message_id: str, path: str, body: bytes, trace: Mapping[str, str]) -> Outcome:
        """A failure to be tried again."""
        return Outcome(Verdict.RETRY, 0, 0.0, "the settings name no such endpoint", 0)


class Courier:
    """Delivers until stopped, each endpoint in a lane of its own: a dead receiver delays no living one.

    Several couriers may run at once; each delivery is leased to one of them.
    """

    def __init__(
        self,
        store: Store,
        endpoints: Mapping[str, Endpoint],
        form: Form,
        uploads: Uploads | None = None,
        traces: Tracing | None = None,
    ) -> None:
        """Nothing runs before start(). Endpoints that store files get them by `uploads`; `traces` tells of each try."""
        self._store = store
        self._form = form
        self._traces = traces or Tracing()
        self._lanes = {name: self._lane(name, endpoint, uploads) for name, endpoint in endpoints.items()}
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Begin to deliver; does nothing if it was begun already."""
        with self._starting:
            if not self._started:
                self._started = True
                self._add_forgotten_lanes()
                for lane in self._lanes.values():
                    lane.start()

    def stop(self, timeout_s: float) -> None:
        """Finish what is being posted, take nothing new; a delivery cut off is posted again by the next courier."""
        deadline = time.monotonic() + timeout_s
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(deadline)

    def _lane(self, name: str, endpoint: Endpoint, uploads: Uploads | None) -> Lane:
        sender = Sender(endpoint)
        bring = partial(uploads.bring, sender, lease_ms=LEASE_MS) if uploads and endpoint.storage else None
        return Lane(name, self._store, sender, self._form, self._traces, bring)

    def _add_forgotten_lanes(self) -> None:
        try:
            known = self._store.lanes()
        except StoreUnavailable as error:
            log.warning("deliveries to endpoints that the settings do not name are left alone: %s", error)
            return
        for name in known.keys() - self._lanes.keys():
            self._lanes[name] = Lane(name, self._store, Nowhere(), self._form, self._traces)


class Lane:
    """The deliveries to one endpoint, at most four at once."""

    def __init__(
        self, endpoint: str, store: Store, posts: Posts, form: Form, traces: Tracing, bring: Bring | None = None
    ) -> None:
        """Nothing runs before start(). `bring` takes files of a job to where they are kept, before its result."""
        self._endpoint = endpoint
        self._store = store
        self._posts = posts
        self._form = form
        self._traces = traces
        self._bring = bring
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        # Daemons: what hangs in a receiver must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"courier-{endpoint}-{number}", daemon=True)
            for number in range(PARALLEL)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take nothing new."""
        self._stopping.set()

    def join(self, deadline: float) -> None:
        """Wait for what is being posted until `deadline`, on the monotonic clock."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._turn:  # one thread looks for work; the others post, or wait to look
                    delivery = self._next()
                if delivery:
                    self._deliver(delivery)
            except StoreUnavailable as error:
                log.warning("no deliveries: %s", error)
                self._stopping.wait(random.uniform(0.5, 1.5))  # noqa: S311  (spread the reconnects)
            except Exception:  # whatever stands in the outbox must not stop the others
                log.exception("no deliveries")
                self._stopping.wait(LONGEST_WAIT_S)

    def _next(self) -> Delivery | None:
        """A delivery to make; None if there was none for a second, or the end has come."""
        if self._stopping.is_set():
            return None
        due, wait_ms = self._store.claim_deliveries(self._endpoint, 1, LEASE_MS)
        if not due and wait_ms:
            self._store.wait_for_deliveries(self._endpoint, min(wait_ms / 1000, LONGEST_WAIT_S))
        return due[0] if due else None

    def _deliver(self, delivery: Delivery) -> None:
        try:
            outcome = self._try(delivery)
        except JobNotFound:
            self._store.give_up_delivery(delivery, Try(note="the job was removed"))
        except LeaseLost as error:
            log.warning("%s", error)
        except (ValueError, KeyError, TypeError) as error:
            log.exception("%s: the record of %s is broken", delivery.id, delivery.job_id)
            self._store.give_up_delivery(delivery, Try(note=f"the record is broken: {error!r}"))
        else:
            self._settle(delivery, outcome)

    def _try(self, delivery: Delivery) -> Outcome:
        """One try, as a span of the job's trace, which the receiver can go on from."""
        job = self._store.get(delivery.job_id)
        facts = {"chef.job.id": job.id, "chef.webhook.endpoint": delivery.endpoint, "chef.webhook.id": delivery.id}
        facts["chef.webhook.try"] = str(delivery.attempt)
        span = self._traces.begin(f"webhook {delivery.event}", Place.of(job.trace), "client", facts)
        failed = "broken off"
        try:
            with logs.bound(**span.about):
                outcome = self._told(job, delivery, span.place.headers if span.place else {})
                log.info("%s %s try %s: %s", delivery.event, delivery.id, delivery.attempt, outcome.note)
            span.note({"http.response.status_code": outcome.status or None})
            failed = "" if outcome.verdict is Verdict.ACCEPTED else outcome.note
        finally:
            span.end(failed=failed)
        return outcome

    def _told(self, job: Job, delivery: Delivery, trace: Mapping[str, str]) -> Outcome:
        """Files first, where any are wanted, then the event. A result waits a while for files that fail."""
        if delivery.event not in ENDS:
            body = news_body(job, delivery, self._form)
        else:
            brought = self._bring(job, delivery) if self._bring else Brought(Stored())
            if failure := brought.failure:
                log.warning("%s: an upload failed: %s", delivery.id, failure.note)
                if failure.verdict is Verdict.RETRY and delivery.attempt <= UPLOAD_TRIES:
                    return replace(failure, note=f"upload: {failure.note}")
            body = result_body(job, delivery, self._log_tail(job), self._form, brought.stored)
        return self._posts.post(delivery.message_id, delivery.event.path, body, trace)

    def _log_tail(self, job: Job) -> str:
        chunks = self._store.log(job.id, max(0, job.log_lines - LOG_TAIL_LINES))
        return "".join(chunk.text for chunk in chunks)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record what became of it. Progress is worth one try: the next one says more."""
        tried = Try(outcome.status, outcome.duration_ms, outcome.note)
        delay_ms = None if delivery.event is Event.PROGRESS else retry_delay_ms(delivery.attempt)
        if outcome.verdict is Verdict.ACCEPTED:
            self._store.accept_delivery(delivery, tried)
        elif outcome.verdict is Verdict.DISABLED:
            log.error("endpoint %s is gone for good (410) and disabled", delivery.endpoint)
            self._store.disable_endpoint(delivery, tried)
        elif outcome.verdict is Verdict.RETRY and delay_ms is not None:
            self._store.retry_delivery(delivery, max(delay_ms, int(outcome.retry_after_s * 1000)), tried)
        else:
            self._store.give_up_delivery(delivery, tried)
