"""What test runners, coverage tools, linters and our analysis wrote, in one form for all tools of a kind.

A report comes out of a job's workspace: it may be forged, broken or huge. Reading it has caps and raises ReportInvalid
alone. What it says is the job's own word; how the job ended, its exit code says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from executor.reports.values import MAX_BYTES, ReportInvalid

from . import analysis, coverage, function, junit, lint, tests

__all__ = ["FORMATS", "MAX_BYTES", "Format", "ReportInvalid", "combined", "read"]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of report (tests, coverage, lint, analysis, function), and what reads it."""

    kind: str
    read: Callable[[bytes], dict[str, Any]]


FORMATS: dict[str, Format] = {
    "vitest": Format("tests", tests.jest),
    "jest": Format("tests", tests.jest),
    "mocha": Format("tests", tests.mocha),
    "junit": Format("tests", junit.read),
    "unittest": Format("tests", junit.unittest),
    "istanbul": Format("coverage", coverage.istanbul),
    "lcov": Format("coverage", coverage.lcov),
    "coverage.py": Format("coverage", coverage.coverage_py),
    "eslint": Format("lint", lint.eslint),
    "biome": Format("lint", lint.biome),
    "oxlint": Format("lint", lint.oxlint),
    "ruff": Format("lint", lint.ruff),
    "tsc": Format("lint", lint.tsc),
    "svelte-check": Format("lint", lint.svelte_check),
    "function": Format("function", function.read),
}
FORMATS["analysis"] = Format(
    "analysis", analysis.reader({name: each.read for name, each in FORMATS.items() if each.kind == "lint"})
)

_COMBINED: dict[str, Callable[[Sequence[dict[str, Any]]], dict[str, Any]]] = {
    "tests": tests.combined,
    "coverage": coverage.combined,
    "lint": lint.combined,
    "analysis": analysis.combined,
}


def read(name: str, data: bytes) -> dict[str, Any]:
    """A report in the format called `name`, as JSON-able values. Raises ReportInvalid."""
    return FORMATS[name].read(data)


def combined(kind: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several reports of one kind as one; there is at least one."""
    return found[0] if len(found) == 1 else _COMBINED[kind](found)
