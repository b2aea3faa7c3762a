"""A collector of traces that the tests can look into: it takes OTLP over HTTP, and tells spans as a tree."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = ("", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, slots=True)
class Seen:
    """One span, as it arrived."""

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    start_ns: int
    end_ns: int
    failed: bool
    service: str
    facts: dict[str, Any]

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass
class Collector:
    """Takes spans on a free port; while `status` is not 200 it takes none."""

    port: int = 0
    status: int = 200
    spans: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self, names: set[str], seconds: float = 15) -> list[Seen]:
        """The spans, once there is one of each of these names."""
        deadline = time.monotonic() + seconds
        while not names <= {span.name for span in self.spans}:
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {names}; there are {tree(self.spans)}"
            time.sleep(0.05)
        return list(self.spans)

    @contextlib.contextmanager
    def serve(self) -> Iterator[Collector]:
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) as server:
            server.daemon_threads = True
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="collector")
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def tree(spans: list[Seen], parent: str = "") -> list[Any]:
    """The names below a span, by their beginnings; a name that has spans below it is a pair of itself and them."""
    known = {span.id for span in spans}
    below = [span for span in spans if (span.parent if span.parent in known else "") == parent]
    told = [(span.name, tree(spans, span.id)) for span in sorted(below, key=lambda each: each.start_ns)]
    return [(name, more) if more else name for name, more in told]


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            if collector.status == 200:
                collector.headers.append({name.lower(): text for name, text in self.headers.items()})
                collector.spans += _spans(body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler


def _spans(body: bytes) -> Iterator[Seen]:
    sent: Any = ExportTraceServiceRequest.FromString(body)
    for group in sent.resource_spans:
        service = _facts(group.resource.attributes)["service.name"]
        for span in (span for scope in group.scope_spans for span in scope.spans):
            yield Seen(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                KINDS[span.kind],
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code == 2,
                service,
                _facts(span.attributes),
            )


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
