"""Takes due deliveries from the outbox and posts them, on threads of its own so that no job waits for a receiver."""

from __future__ import annotations

import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from errors import JobNotFound, StoreUnavailable
from jobs import Delivery
from store import Store
from webhook import Outcome, Sender, Verdict, progress_body, result_body, retry_delay_ms

log = logging.getLogger(__name__)

PARALLEL = 4  # a self-hosted Convex proxy serves four HTTP actions at once
LEASE_MS = 30_000  # twice a delivery's own deadline: nobody else posts the same one meanwhile
LOG_TAIL_LINES = 40


class Courier:
    """Delivers until stopped. Several couriers may run at once; each delivery is leased to one of them."""

    def __init__(self, store: Store, sender: Sender, owner: str) -> None:
        """`owner` names this process in the leases. Nothing runs before start()."""
        self._store = store
        self._sender = sender
        self._owner = owner
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver; does nothing if it was begun already."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish what is being posted, take nothing new; a delivery cut off is posted again by the next courier."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="courier") as pool:
            while not self._stopping.is_set():
                try:
                    due = self._store.claim_deliveries(self._owner, PARALLEL, LEASE_MS)
                    if not due:
                        self._store.wait_for_deliveries(1.0)
                    list(pool.map(self._deliver, due))
                except StoreUnavailable as error:
                    log.warning("no deliveries: %s", error)
                    self._stopping.wait(random.uniform(0.5, 1.5))  # noqa: S311  (spread the reconnects)
                except Exception:  # whatever stands in the outbox must not stop the others
                    log.exception("no deliveries")
                    self._stopping.wait(1.0)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            body = self._body(delivery)
        except JobNotFound:
            self._store.give_up_delivery(delivery, "the job was removed")
            return
        except (ValueError, KeyError, TypeError) as error:
            log.exception("%s: the record of %s is broken", delivery.id, delivery.job_id)
            self._store.give_up_delivery(delivery, f"the record is broken: {error!r}")
            return
        self._settle(delivery, self._sender.post(delivery.id, delivery.event, body))

    def _body(self, delivery: Delivery) -> bytes:
        job = self._store.get(delivery.job_id)
        if delivery.event == "progress":
            return progress_body(job)
        chunks = self._store.log(job.id, max(0, job.log_lines - LOG_TAIL_LINES))
        return result_body(job, "".join(chunk.text for chunk in chunks))

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Record what became of it. Progress is worth one try: the next one says more."""
        log.info("%s %s try %s: %s", delivery.event, delivery.id, delivery.attempt, outcome.note)
        if outcome.verdict is Verdict.ACCEPTED:
            self._store.accept_delivery(delivery)
            return
        delay_ms = retry_delay_ms(delivery.attempt)
        if outcome.verdict is not Verdict.RETRY or delivery.event == "progress" or delay_ms is None:
            self._store.give_up_delivery(delivery, outcome.note)
            return
        self._store.retry_delivery(delivery, max(delay_ms, int(outcome.retry_after_s * 1000)), outcome.note)
