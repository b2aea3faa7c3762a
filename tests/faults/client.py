"""A caller of the API that does not give up: it repeats a request until it is answered, and notes what it was told."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

import requests

from tests.faults.ledger import Submissions
from tests.faults.scripted import PLAN, Plan

PATIENCE_S = 20.0


@dataclass
class Client:
    """`refusals` counts answers of 5xx, `broken` the requests that were cut off without an answer."""

    url: str
    sent: Submissions
    refusals: int = 0
    broken: int = 0

    def once(self, plan: Plan, chat: str, key: str = "") -> requests.Response:
        """POST a job, once."""
        body = {"type": "build", "data": {"chatId": chat, "projectFiles": {PLAN: json.dumps(asdict(plan))}}}
        headers = {"Idempotency-Key": key} if key else {}
        return requests.post(f"{self.url}/api/jobs", json=body, headers=headers, timeout=5)

    def submit(self, plan: Plan, chat: str, key: str = "") -> str:
        """POST a job until it is taken; its id."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = self.once(plan, chat, key)
            except requests.RequestException:
                self.broken += 1
            else:
                if answer.status_code < 500:
                    assert answer.status_code in {200, 201}, answer.text
                    self.sent.acknowledged.append(answer.json()["jobId"])
                    return self.sent.acknowledged[-1]
                self.refusals += 1
            time.sleep(0.1)
        raise AssertionError(f"not taken within {PATIENCE_S:g} s")
