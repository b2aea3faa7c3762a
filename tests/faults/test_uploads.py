"""A worker that dies while it uploads: the next one goes on where it was, and the result names every file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.scripted import Plan
from tests.faults.service import running
from tests.test_uploads import SECRET, receiving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]
PATHS = {"WEBHOOK_RESULT_PATH": "/r", "WEBHOOK_PROGRESS_PATH": "/p", "WEBHOOK_UPLOAD_PATH": "/u"}


def test_killed_while_it_uploads() -> None:
    """Killed after storage has a file and before the worker knows: the file is stored again, the result told once."""
    with receiving() as convex:
        settings = {"CONVEX_URL": convex.url, "CONVEX_SITE_URL": convex.url, "CONVEX_UPLOAD": "artifacts", **PATHS}
        with running(1, WEBHOOK_SECRET=SECRET, WEBHOOK_PROGRESS="false", **settings) as service:
            at_once: Callable[..., Any] = convex.storage

            def kill_then_answer(digest: str, content: bytes) -> tuple[int, Any]:
                answer: tuple[int, Any] = at_once(digest, content)
                if len(convex.stored) == 1:
                    service.kill(service.living()[0])
                return answer

            convex.storage = kill_then_answer  # type: ignore[method-assign]
            job = service.ended(service.add(Plan(ms=1).request()).id)
            service.until(lambda: convex.results, 40, "the result is told")
            service.until(lambda: not service.store.lanes()["default"].pending, 10, "the result is accepted")

    (result,) = convex.results
    assert [content for _, content in convex.stored] == [b"said by run 1"] * 2
    assert [(each["path"], each["storageId"]) for each in result["artifacts"]] == [("out.txt", "id1")]
    assert result["jobId"] == job.id
