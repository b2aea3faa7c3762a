"""The delivery log over HTTP: what was told to whom, sending it again, and trying out an endpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bottle import request

from api.answers import json_answer, whole_number
from api.guard import PAGE, own, own_page
from api.operations import said
from errors import InvalidRequest, JobNotFound, Mistake, NotFound
from events import Endpoint
from jobs import ID_CHARS, new_id
from payload import trial_body
from store import DELIVERY_STATES, Listed, Store
from webhook import Outcome, Sender, Verdict

#: A caller waits for the outcome of a test, so a slow receiver has less time than in earnest.
TRIAL_S = 5.0
MAX_TRIALS_AT_ONCE = 8


class Deliveries:
    """One method for each route."""

    def __init__(self, store: Store, endpoints: Mapping[str, Endpoint]) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._endpoints = endpoints

    def of_job(self, job_id: str) -> bytes:
        """What was told about a job, is being told, or could not be; progress that was sent is not kept."""
        own(self._store, job_id)
        return json_answer({"jobId": job_id, "deliveries": _shown(self._store.deliveries_of(job_id))})

    def listed(self) -> bytes:
        """All deliveries in one state, newest first; `next` is the cursor of the following page."""
        state = request.query.get("state", "pending")
        if state not in DELIVERY_STATES:
            raise InvalidRequest([Mistake("?state", f"state must be one of {', '.join(DELIVERY_STATES)}.")])
        page, following = own_page(
            lambda before: self._store.deliveries(state, before, PAGE),
            whole_number("cursor") or None,
            lambda each: each.tenant,
        )
        return json_answer({"state": state, "deliveries": _shown(page), "next": following})

    def resend(self, delivery_id: str) -> bytes:
        """Send a delivery again, accepted or not, under the id it had."""
        with contextlib.suppress(JobNotFound):
            own(self._store, delivery_id[:ID_CHARS])  # <job>-<seq>.<endpoint>
            self._store.resend(delivery_id)
            return json_answer({"id": delivery_id, "state": "pending"}, 202)
        raise NotFound("There is no such delivery, or its job was removed.")

    def enable(self, name: str) -> bytes:
        """Send to an endpoint again that answered 410; what waited for it goes out now."""
        if name not in self._endpoints:
            raise self._unknown()
        self._store.enable_endpoint(name)
        return json_answer({"endpoint": name, **self._store.lanes([name])[name].to_json()})

    def test(self) -> bytes:
        """Post a signed event that tells of no job to every path of each endpoint, or of one, and say how it went."""
        wanted = said("endpoint")["endpoint"]
        if wanted and wanted not in self._endpoints:
            raise self._unknown()
        chosen = [wanted] if wanted else list(self._endpoints)
        trials = [(name, path) for name in chosen for path in self._endpoints[name].paths]
        with ThreadPoolExecutor(MAX_TRIALS_AT_ONCE) as pool:
            results = list(pool.map(lambda trial: self._try(*trial), trials))
        return json_answer({"results": results, "accepted": all(result["accepted"] for result in results)})

    def _try(self, name: str, path: str) -> dict[str, Any]:
        endpoint = self._endpoints[name]
        with contextlib.closing(Sender(endpoint, deadline_s=TRIAL_S)) as sender:
            outcome = sender.post(f"test-{new_id()}", path, trial_body(name))
        return {"endpoint": name, "url": endpoint.url + endpoint.paths[path], **_outcome(outcome)}

    def _unknown(self) -> NotFound:
        known = ", ".join(self._endpoints) or "none"
        return NotFound(f"There is no endpoint of this name in the settings; there are: {known}.")


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "accepted": outcome.verdict is Verdict.ACCEPTED,
        "status": outcome.status or None,
        "durationMs": outcome.duration_ms,
        "note": outcome.note,
    }


def _shown(page: list[Listed]) -> list[dict[str, Any]]:
    return [each.to_json() for each in page]
