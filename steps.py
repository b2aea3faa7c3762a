"""What a job does one after the other, as a caller asks for it: checked, with every mistake at its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from errors import Mistake
from jobs import STEPS, JobType

_HERE = "#/data/steps"
_KNOWN = ", ".join(STEPS)
DESCRIPTION = f"a list of {_KNOWN}, each at most once"


def mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong with the steps of a submission's `data`. That they are a list with entries, their field says."""
    steps = data.get("steps")
    if not isinstance(steps, list) or not steps:
        return
    if len(steps) > len(STEPS):
        yield Mistake(
            _HERE, f"steps has {len(steps):,} entries; at most {len(STEPS)} are accepted: {_KNOWN}, each once."
        )
        return
    for at, step in enumerate(steps):
        if step not in STEPS:
            yield Mistake(f"{_HERE}/{at}", f"A step must be one of {_KNOWN}.")
        elif step in steps[:at]:
            yield Mistake(f"{_HERE}/{at}", f"The step {step} is there already.")
    if data.get("command") and JobType.BUILD not in steps:
        yield Mistake("#/data/command", "In a job with steps, command is the build's, and steps has no build.")
