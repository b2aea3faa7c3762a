"""Traces: a caller's place in one is taken along (W3C Trace Context), and spans go to a collector if one is set.

Without a collector no span is made, and nothing that makes or sends spans is imported.
"""

from __future__ import annotations

import atexit
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

log = logging.getLogger(__name__)

#: Who is on the other end: a caller, a receiver, whoever submitted the job, or nobody.
Kind = Literal["server", "client", "consumer", "producer", "internal"]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z0-9][a-z0-9_*/-]{0,240}(@[a-z][a-z0-9_*/-]{0,13})?"
_MEMBER = re.compile(rf"[ \t]*({_KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~][ \t]*")
#: Of the flags, those that have a meaning today: sampled, and random.
_FLAGS = 0x03
MAX_TRACESTATE = 512
MAX_MEMBERS = 32

#: Spans that wait for the collector in each process; what comes beyond them is dropped.
QUEUE_SPANS = 2_048
EVERY_MS = 1_000
#: How long the collector may take for one answer (s), tries included, and what an ending process gives it.
EXPORT_S = 5.0
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a trace: the headers `traceparent` and `tracestate` of whatever goes on from there."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The trace, as 32 hexadecimal digits."""
        return self.traceparent.split("-")[1]

    @property
    def headers(self) -> dict[str, str]:
        """As a request carries it."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}

    @property
    def text(self) -> str:
        """As a job's record keeps it."""
        return f"{self.traceparent} {self.tracestate}".strip()

    @classmethod
    def of(cls, text: str) -> Place | None:
        """The inverse of text; None for anything else."""
        return received(*text.partition(" ")[::2])


def received(traceparent: str, tracestate: str = "") -> Place | None:
    """The place that two headers name, by the rules of the W3C: None for a traceparent that is not valid.

    Of a later version only what this one knows is taken. A tracestate that is not valid is left out.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if not match:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return Place(f"00-{trace_id}-{parent_id}-{int(flags, 16) & _FLAGS:02x}", _tracestate(tracestate))


def _tracestate(text: str) -> str:
    members = [member for member in text.split(",") if member.strip(" \t")]
    known = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in known if match}
    is_valid = len(keys) == len(members) <= MAX_MEMBERS and len(text) <= MAX_TRACESTATE
    return ",".join(member.strip(" \t") for member in members) if is_valid else ""


class Span:
    """One span, or, while none are made, just the place at which it would be."""

    def __init__(self, place: Place | None) -> None:
        """`place` is what the span's own parts go on from."""
        self.place = place

    @property
    def about(self) -> dict[str, str]:
        """What a log record says of it."""
        return {"trace": self.place.trace_id} if self.place else {}

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add to what the span says; facts that are None or empty are left out."""

    def end(self, *, name: str = "", failed: str = "", end_ns: int | None = None) -> None:
        """It is over: now, or at a moment (Unix nanoseconds). `failed` says why, if it did."""


class Tracing:
    """Makes no spans."""

    def begin(
        self,
        name: str,
        parent: Place | None,
        kind: Kind = "internal",
        facts: Mapping[str, Any] | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """A span that begins now, or at a moment (Unix nanoseconds). Without a parent it is the first of a trace."""
        return Span(parent)

    def stop(self) -> None:
        """Hand on what is there, within STOP_S."""


def opened(endpoint: str | None, headers: str, service: str, version: str) -> Tracing:
    """What makes the spans of this process. Call it after a fork: it starts a thread.

    `endpoint` is the collector's address, to which /v1/traces is added; None for no spans. `headers` are
    `name=value`, separated by commas. `service` and `version` are what spans say of their origin.
    """
    return _Exporting(endpoint, headers, service, version) if endpoint else Tracing()


# Any: OpenTelemetry is imported when it is wanted, and not before.
class _Exporting(Tracing):
    """Hands spans to a collector, from a thread of its own. What the collector does not take is dropped."""

    def __init__(self, endpoint: str, headers: str, service: str, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
        from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would say so once a second; we say it once
        sent_with = parse_env_headers(headers, liberal=True)
        exporter: Any = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", headers=sent_with, timeout=EXPORT_S)
        exporter.export = _Told(exporter.export, endpoint)
        told = Resource.create({"service.name": service, "service.version": version})
        self._provider = TracerProvider(resource=told, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, QUEUE_SPANS, EVERY_MS, QUEUE_SPANS // 4))
        self._tracer = self._provider.get_tracer("chef-workers", version)
        self._propagator = TraceContextTextMapPropagator()
        atexit.register(self.stop)

    def begin(
        self,
        name: str,
        parent: Place | None,
        kind: Kind = "internal",
        facts: Mapping[str, Any] | None = None,
        start_ns: int | None = None,
    ) -> Span:
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        above = self._propagator.extract(parent.headers if parent else {}, Context())
        span = self._tracer.start_span(
            name, above, SpanKind[kind.upper()], _attributes(facts or {}), start_time=start_ns
        )
        carried: dict[str, str] = {}
        self._propagator.inject(carried, set_span_in_context(span))
        return _Exported(span, received(carried.get("traceparent", ""), carried.get("tracestate", "")) or parent)

    def stop(self) -> None:
        # In a thread, because a collector that does not answer would hold the process for as long as it likes.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        with suppress(RuntimeError):  # no threads are to be had any more
            ending.start()
            ending.join(STOP_S)


class _Exported(Span):
    def __init__(self, span: Any, place: Place | None) -> None:
        super().__init__(place)
        self._span = span

    def note(self, facts: Mapping[str, Any]) -> None:
        self._span.set_attributes(_attributes(facts))

    def end(self, *, name: str = "", failed: str = "", end_ns: int | None = None) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        if name:
            self._span.update_name(name)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR, failed))
        self._span.end(end_ns)


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "")}


class _Told:
    """An exporter's export, which says once that the collector takes nothing, and once that it does again."""

    def __init__(self, export: Any, endpoint: str) -> None:
        self._export = export
        self._endpoint = endpoint
        self._failing = False

    def __call__(self, spans: Sequence[Any]) -> Any:
        answer = self._export(spans)
        failing = answer.name != "SUCCESS"
        if failing and not self._failing:
            log.warning("%s takes no traces: they are dropped until it does", self._endpoint)
        elif self._failing and not failing:
            log.info("%s takes traces again", self._endpoint)
        self._failing = failing
        return answer
