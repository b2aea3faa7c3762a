"""Places in traces by the rules of the W3C, and spans on their way to a collector."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import attempt_spans
import tracing
from jobs import Conclusion, Job, JobType, PhaseTime, Reason, Result, Status
from tests.collector import Collector, tree
from tracing import Place, Tracing, received

ROOT = Path(__file__).parent.parent
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """What still sends after a test would draw random numbers beside the next one, whose strategies watch that."""
    yield
    for thread in threading.enumerate():
        if thread.name in {"traces", "OtelBatchSpanRecordProcessor"}:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().serve() as serving:
        yield serving


@pytest.mark.parametrize(
    ("given_text", "taken"),
    [
        (GIVEN, GIVEN),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"00-{TRACE}-{PARENT}-ff", f"00-{TRACE}-{PARENT}-03"),  # flags without a meaning are not handed on
        (f"cc-{TRACE}-{PARENT}-01", GIVEN),  # of a later version what this one knows
        (f"cc-{TRACE}-{PARENT}-01-what-is-new", GIVEN),
        (f"cc-{TRACE}-{PARENT}-01.what-is-new", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[1:]}-{PARENT}-01", None),
        (f"{GIVEN},{GIVEN}", None),  # the header twice
        (f" {GIVEN}", None),
        (f"{GIVEN}\n", None),
        ("", None),
    ],
)
def test_traceparent(given_text: str, taken: str | None) -> None:
    """What is valid is taken, in the form of version 00; anything else is as if there were none."""
    place = received(given_text)

    assert (place and place.traceparent) == taken


@pytest.mark.parametrize(
    ("given_text", "taken"),
    [
        ("congo=t61rcWkgMzE", "congo=t61rcWkgMzE"),
        ("rojo=00f067aa0ba902b7, ,congo=t61 rcWkgMzE ", "rojo=00f067aa0ba902b7,congo=t61 rcWkgMzE"),
        ("fw529a3039@dt=FfWBlQ", "fw529a3039@dt=FfWBlQ"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=1=2", ""),
        ("a=", ""),
        ("a=\x01", ""),
        (",".join(f"k{number}=v" for number in range(33)), ""),
        ("a=" + "x" * 300, ""),
    ],
)
def test_tracestate(given_text: str, taken: str) -> None:
    """A tracestate that is not valid is left out, and the trace goes on without it."""
    place = received(GIVEN, given_text)

    assert place == Place(GIVEN, taken)
    assert Place.of(place.text) == place


@given(st.text(), st.text())
def test_any_headers(traceparent: str, tracestate: str) -> None:
    """No header breaks anything, and what is taken can be read again."""
    for place in (received(traceparent, tracestate), received(GIVEN, tracestate)):
        assert place is None or Place.of(place.text) == place


def test_nothing_is_imported_without_a_collector() -> None:
    """With the usual settings neither the API nor a worker loads what makes spans or sends them.

    redis-py loads the package's figures wherever it is installed: 60 ms and 2.4 MB of a process, once.
    """
    unused = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf")
    program = f"import sys, tasks, app; print([name for name in sys.modules if name.startswith({unused})])"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OTEL")}  # noqa: TID251
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_a_place_is_taken_along_without_a_collector() -> None:
    """Without spans the caller's own place is what goes on."""
    span = tracing.opened(None, "", "chef-workers", "1").begin("any", received(GIVEN))
    span.note({"a": 1})
    span.end(failed="it did")

    assert span.place == received(GIVEN)
    assert span.about == {"trace": TRACE}
    assert Tracing().begin("any", None).about == {}


def test_spans_arrive(collector: Collector) -> None:
    """Spans with moments of their own, below one of the caller's; the headers that the collector wants are sent."""
    traces = tracing.opened(collector.url + "/", "authorization=Bearer%20abc,x-team=web", "here", "1.2")
    first = traces.begin("first", received(GIVEN, "congo=t61"), "server", {"a": 1, "none": None}, 10**18)
    assert first.place
    traces.begin("second", first.place, start_ns=10**18 + 5).end(end_ns=10**18 + 7)
    first.end(name="renamed", failed="it did", end_ns=10**18 + 9)
    traces.stop()
    second, renamed = sorted(collector.spans, key=lambda span: -span.start_ns)

    assert first.place.tracestate == "congo=t61"
    assert (renamed.trace, renamed.parent, renamed.kind, renamed.failed) == (TRACE, PARENT, "server", True)
    assert (renamed.name, renamed.service, renamed.facts) == ("renamed", "here", {"a": 1})
    assert (second.parent, second.end_ns - second.start_ns, second.failed) == (renamed.id, 2, False)
    assert {"authorization": "Bearer abc", "x-team": "web"}.items() <= collector.headers[0].items()


def test_a_trace_that_is_not_sampled(collector: Collector) -> None:
    """Whoever is not to be recorded is not; the trace goes on all the same, unsampled."""
    traces = tracing.opened(collector.url, "", "here", "1")
    span = traces.begin("any", received(f"00-{TRACE}-{PARENT}-00"))
    span.end()
    traces.stop()

    assert span.place
    assert span.place.traceparent.startswith(f"00-{TRACE}-")
    assert span.place.traceparent.endswith("-00")
    assert collector.spans == []


def test_a_collector_that_is_away(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it: spans beyond the bound are dropped, one line says so, and the end takes two seconds."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(tracing, "EXPORT_S", 0.5)
    with Collector().serve() as gone:
        pass
    traces = tracing.opened(gone.url, "", "here", "1")
    began = time.monotonic()
    for number in range(3 * tracing.QUEUE_SPANS):
        traces.begin(f"span {number}", None).end()
    made_s = time.monotonic() - began
    time.sleep(2)  # an export or two
    began = time.monotonic()
    traces.stop()
    ended_s = time.monotonic() - began

    assert made_s < 3
    assert ended_s < tracing.STOP_S + 0.5
    assert [record.message for record in caplog.records if "no traces" in record.message] == [
        f"{gone.url} takes no traces: they are dropped until it does"
    ]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_collector_that_hangs() -> None:
    """One that takes a connection and never answers holds the end of a process for two seconds, and no longer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        traces = tracing.opened(f"http://127.0.0.1:{silent.getsockname()[1]}", "", "here", "1")
        traces.begin("any", None).end()
        time.sleep(tracing.EVERY_MS / 1000 + 0.2)  # the request is under way
        began = time.monotonic()
        traces.stop()

        assert time.monotonic() - began < tracing.STOP_S + 0.5


def test_a_collector_that_comes_back(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once that it refuses, and once that it takes spans again."""
    caplog.set_level(logging.INFO)
    collector.status = 400
    traces = tracing.opened(collector.url, "", "here", "1")
    deadline = time.monotonic() + 10
    while not collector.spans:
        assert time.monotonic() < deadline
        traces.begin("any", None).end()
        if f"{collector.url} takes no" in caplog.text:
            collector.status = 200
        time.sleep(0.1)
    traces.stop()

    assert (caplog.text.count(f"{collector.url} takes no"), caplog.text.count(f"{collector.url} takes traces")) == (
        1,
        1,
    )


def test_no_thread_before_it_is_opened() -> None:
    """The thread that sends begins with opened(), which gunicorn's processes call after the fork."""
    program = (
        "import runpy, sys, threading; runpy.run_path('gunicorn.conf.py');"
        "print([thread.name for thread in threading.enumerate()], 'tasks' in sys.modules)"
    )
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}  # noqa: TID251
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout == "['MainThread'] False\n"


# --- one attempt ------------------------------------------------------------------------------------------------------


def job(**fields: object) -> Job:
    usual = {"created_ms": 1_700_000_000_000, "attempt": 1, "owner": "host:1", "trace": GIVEN}
    return Job("job-" + "a" * 32, JobType.BUILD, Status.ACTIVE, 5, **{**usual, **fields})  # type: ignore[arg-type]


def test_phases_are_laid_out() -> None:
    """A phase has its own length from where it began; one that was cut off lasts to the next, or to the end."""
    ms = 1_000_000
    begun = [("preparing", 0), ("installing", 10 * ms), ("building", 50 * ms), ("collecting", 90 * ms)]
    phases = (PhaseTime("preparing", 9), PhaseTime("installing", 30), PhaseTime("collecting", 500))

    assert attempt_spans.laid_out(begun, phases, 100 * ms) == [
        ("preparing", 0, 9 * ms),
        ("installing", 10 * ms, 40 * ms),
        ("building", 50 * ms, 90 * ms),
        ("collecting", 90 * ms, 100 * ms),
    ]
    assert attempt_spans.laid_out([], phases, 1) == []


def test_the_same_phase_twice() -> None:
    """A job of several steps collects after each: the lengths go to the beginnings in order."""
    begun = [("collecting", 0), ("testing", 5_000_000), ("collecting", 9_000_000)]
    phases = (PhaseTime("collecting", 1), PhaseTime("testing", 2), PhaseTime("collecting", 3))

    assert [end - start for _, start, end in attempt_spans.laid_out(begun, phases, 10**9)] == [
        1_000_000,
        2_000_000,
        3_000_000,
    ]


def test_when_a_wait_began() -> None:
    """A wait begins with the job, or when it was due, or when its last run ended."""
    ended = ({"finishedAt": "2023-11-14T22:13:30.000Z"},)

    assert attempt_spans.waiting_since_ms(job()) == 1_700_000_000_000
    assert attempt_spans.waiting_since_ms(job(run_at_ms=1_700_000_005_000)) == 1_700_000_005_000
    assert attempt_spans.waiting_since_ms(job(attempts=ended)) == 1_700_000_010_000
    assert attempt_spans.waiting_since_ms(job(attempts=ended, run_at_ms=1_700_000_012_000)) == 1_700_000_012_000


def test_an_attempt_as_spans(collector: Collector) -> None:
    """The wait and the attempt stand beside each other below the caller; the phases below the attempt."""
    traces = tracing.opened(collector.url, "", "here", "1")
    spans = attempt_spans.AttemptSpans(traces, job(), 3)
    spans.phase("preparing")
    spans.phase("building")
    spans.end(Result(Conclusion.FAILURE, Reason.BUILD_FAILED, phases=(PhaseTime("building", 0),)))
    traces.stop()
    attempt = next(span for span in collector.spans if span.name == "attempt")

    assert tree(collector.spans) == ["queue", ("attempt", ["preparing", "building"])]
    assert (attempt.trace, attempt.parent, attempt.kind, attempt.failed) == (TRACE, PARENT, "consumer", True)
    assert attempt.facts["chef.reason"] == "build_failed"
    assert attempt.facts["chef.slot"] == 3
    assert spans.about == {"trace": TRACE}


def test_a_stopped_attempt(collector: Collector) -> None:
    """A run that was stopped says why, and is no failure of anybody."""
    traces = tracing.opened(collector.url, "", "here", "1")
    attempt_spans.AttemptSpans(traces, job(trace=""), 0).end(None, "shutdown")
    traces.stop()
    attempt = next(span for span in collector.spans if span.name == "attempt")

    assert (attempt.facts["chef.reason"], attempt.failed) == ("shutdown", False)


def test_a_job_without_a_trace_gets_one(collector: Collector) -> None:
    """What comes from a schedule begins a trace; what comes with one keeps it."""
    traces = tracing.opened(collector.url, "", "here", "1")
    span, trace = attempt_spans.span_of_submission(traces, "")
    assert span
    span.end()
    traces.stop()

    assert Place.of(trace)
    assert [seen.name for seen in collector.spans] == ["submit"]
    assert attempt_spans.span_of_submission(traces, GIVEN) == (None, GIVEN)
    assert attempt_spans.span_of_submission(Tracing(), "")[1] == ""
