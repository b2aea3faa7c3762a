"""Takes due deliveries from the outbox and posts them, on threads of its own so that no job waits for a receiver."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from errors import JobNotFound, StoreUnavailable
from events import Delivery, Endpoint, Event, Try
from payload import Form, news_body, result_body
from store import Store
from webhook import Outcome, Sender, Verdict, retry_delay_ms

log = logging.getLogger(__name__)

PARALLEL = 4  # a self-hosted Convex proxy serves four HTTP actions at once
LEASE_MS = 30_000  # twice a delivery's own deadline: nobody else posts the same one meanwhile
LOG_TAIL_LINES = 40
LONGEST_WAIT_S = 1.0


class Posts(Protocol):
    """What makes one try: webhook.Sender, or Nowhere."""

    def post(self, message_id: str, path: str, body: bytes) -> Outcome:
        """One try; never raises for what the network or the receiver does."""
        ...


class Nowhere:
    """Stands for an endpoint that the settings do not name any more: it may come back, and its deliveries run out."""

    def post(self, message_id: str, path: str, body: bytes) -> Outcome:
        """A failure to be tried again."""
        return Outcome(Verdict.RETRY, 0, 0.0, "the settings name no such endpoint", 0)


class Courier:
    """Delivers until stopped, each endpoint in a lane of its own: a dead receiver delays no living one.

    Several couriers may run at once; each delivery is leased to one of them.
    """

    def __init__(self, store: Store, endpoints: Mapping[str, Endpoint], form: Form) -> None:
        """Nothing runs before start()."""
        self._store = store
        self._form = form
        self._lanes = {name: Lane(name, store, Sender(endpoint), form) for name, endpoint in endpoints.items()}
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

    def _add_forgotten_lanes(self) -> None:
        try:
            known = self._store.lanes()
        except StoreUnavailable as error:
            log.warning("deliveries to endpoints that the settings do not name are left alone: %s", error)
            return
        for name in known.keys() - self._lanes.keys():
            self._lanes[name] = Lane(name, self._store, Nowhere(), self._form)


class Lane:
    """The deliveries to one endpoint, at most four at once."""

    def __init__(self, endpoint: str, store: Store, posts: Posts, form: Form) -> None:
        """Nothing runs before start()."""
        self._endpoint = endpoint
        self._store = store
        self._posts = posts
        self._form = form
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
            body = self._body(delivery)
        except JobNotFound:
            self._store.give_up_delivery(delivery, Try(note="the job was removed"))
            return
        except (ValueError, KeyError, TypeError) as error:
            log.exception("%s: the record of %s is broken", delivery.id, delivery.job_id)
            self._store.give_up_delivery(delivery, Try(note=f"the record is broken: {error!r}"))
            return
        self._settle(delivery, self._posts.post(delivery.message_id, delivery.event.path, body))

    def _body(self, delivery: Delivery) -> bytes:
        job = self._store.get(delivery.job_id)
        if delivery.event.path == "progress":
            return news_body(job, delivery, self._form)
        chunks = self._store.log(job.id, max(0, job.log_lines - LOG_TAIL_LINES))
        return result_body(job, delivery, "".join(chunk.text for chunk in chunks), self._form)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record what became of it. Progress is worth one try: the next one says more."""
        log.info("%s %s try %s: %s", delivery.event, delivery.id, delivery.attempt, outcome.note)
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
