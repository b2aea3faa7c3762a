"""The span of a request, and its place in the caller's trace."""

from __future__ import annotations

from typing import Any

from bottle import request

from tracing import Span, Tracing, received

_SPAN = "chef.span"
#: Reading changes nothing, and callers that poll would fill every trace with it.
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def begin(traces: Tracing, facts: dict[str, Any]) -> None:
    """Take the caller's trace along. A request that may change something has a span in it."""
    environ = request.environ
    parent = received(environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", ""))
    reads = request.method in READING
    environ[_SPAN] = Span(parent) if reads else traces.begin(request.method, parent, "server", facts)


def place() -> str:
    """Where the jobs of the current request belong, as a record keeps it; empty where that is nowhere."""
    found = _span().place
    return found.text if found else ""


def note_job(job_id: str) -> None:
    """Say which job the current request has led to."""
    _span().note({"chef.job.id": job_id})


def end(name: str, facts: dict[str, Any], failed: str) -> dict[str, str]:
    """The current request is answered; what its log record says of the trace."""
    span = _span()
    span.note(facts)
    span.end(name=name, failed=failed)
    return span.about


def _span() -> Span:
    found: Span = request.environ.get(_SPAN) or Span(None)
    return found
