"""Results of earlier jobs: what makes two jobs the same work, and what a job gets that was done before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from jobs import Artifact, Conclusion, Job, Request, Result

#: What says how a job is treated, not what it does.
PASSED_OVER = frozenset({"chat_id", "priority", "limits", "use_cache", "keep_sandbox"})


def fingerprint(job: Job, request: Request, images: Iterable[str]) -> str | None:
    """The same for jobs that do the same with the same, in the same images, for one tenant; None: not to be reused.

    Functions are called for their effect and their answer now, so they are never the same.
    """
    if request.call or not request.use_cache:
        return None
    work = {item.name: getattr(request, item.name) for item in fields(request) if item.name not in PASSED_OVER}
    text = json.dumps([job.tenant, work, sorted(images)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def reused(earlier: Job, artifacts: tuple[Artifact, ...]) -> Result:
    """The result of a job in whose place an earlier one stands; `artifacts` are its files, as they are kept now."""
    body = dict(earlier.result)
    known = {name: body.pop(name, None) for name in ("exitCode", "command", "phases", "skippedArtifacts", "outputTail")}
    return Result(
        Conclusion.SUCCESS,
        command=known["command"] or "",
        exit_code=known["exitCode"],
        artifacts=artifacts,
        skipped=tuple(known["skippedArtifacts"] or ()),
        output_tail=known["outputTail"] or "",
        detail={**_without_usage(body), "cached": True, "cachedFrom": earlier.id, "savedMs": earlier.duration_ms},
    )


def _without_usage(body: dict[str, Any]) -> dict[str, Any]:
    """What was found out; what it cost is the earlier job's."""
    return {name: value for name, value in body.items() if name not in ("usage", "egress", "cache")}


def artifacts_of(job: Job) -> tuple[Artifact, ...]:
    """What a job made, as its record lists it."""
    return tuple(Artifact(each["path"], each["size"], each["sha256"]) for each in job.artifacts)
