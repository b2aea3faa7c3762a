"""Pure: what several works of one plan came to, as one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from executor.recipes import Plan, Work
from jobs import Reason, Result

#: After one of these no other work of the same run could do any better.
FATAL = frozenset({Reason.DISK_FULL, Reason.OUTPUT_LIMIT})
SKIPPED = "skipped"


def is_over(plan: Plan, result: Result) -> bool:
    """True if nothing more is to be done after a work that came to `result`."""
    return result.reason is not None and (not plan.goes_on or result.reason in FATAL)


def joined(plan: Plan, ended: Sequence[Result]) -> Result:
    """The result of a plan whose works, or the first of them, came to `ended`; there is at least one.

    A pipeline ends as the first work that failed does. It has all files and, in its detail, `steps`: one for each work.
    """
    if not plan.is_pipeline:
        return ended[0]
    at, shown = next(((at, each) for at, each in enumerate(ended) if each.reason), (len(ended) - 1, ended[-1]))
    missing = [None] * (len(plan.works) - len(ended))
    return replace(
        shown,
        message=f"{plan.works[at].type}: {shown.message}" if shown.message else "",
        artifacts=tuple(artifact for each in ended for artifact in each.artifacts),
        skipped=tuple(entry for each in ended for entry in each.skipped),
        detail={"steps": [_step(work, each) for work, each in zip(plan.works, [*ended, *missing], strict=True)]},
    )


def unstarted(plan: Plan) -> dict[str, Any]:
    """What the result tells of a plan that ended before its first work."""
    return {"steps": [_step(work, None) for work in plan.works]} if plan.is_pipeline else dict(plan.works[0].facts)


def _step(work: Work, result: Result | None) -> dict[str, Any]:
    """One work as the result of a pipeline tells it."""
    if result is None:
        return {"type": work.type.value, "conclusion": SKIPPED, "reason": None}
    return {
        "type": work.type.value,
        "conclusion": result.conclusion.value,
        "reason": result.reason.value if result.reason else None,
        "message": result.message.split(":\n\n", 1)[0],  # the rest is the output's tail
        "durationMs": sum(phase.duration_ms for phase in result.phases),
        "command": result.command,
        "exitCode": result.exit_code,
        "outputTail": result.output_tail,
        **result.detail,
    }
