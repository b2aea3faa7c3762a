"""The spans of one attempt at a job: the wait before it, the attempt itself, and its phases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from jobs import Conclusion, Job, PhaseTime, Result
from tracing import Place, Span, Tracing

NS_PER_MS = 1_000_000


class AttemptSpans:
    """Begins with the attempt; its phases are made once they are over, because only then their length is known."""

    def __init__(self, traces: Tracing, job: Job, slot: int) -> None:
        """The wait is over, and the attempt begins. The wait is told by Redis' clock, all else by this machine's."""
        self._traces = traces
        self._phases: list[tuple[str, int]] = []
        place = Place.of(job.trace)
        facts = {"chef.job.id": job.id, "chef.job.type": job.type.value, "chef.job.attempt": job.attempt}
        now_ns = time.time_ns()
        since_ns = min(waiting_since_ms(job) * NS_PER_MS, now_ns)
        traces.begin("queue", place, facts=facts | {"chef.queue": job.queue}, start_ns=since_ns).end(end_ns=now_ns)
        more = {"chef.chat.id": job.chat_id, "chef.worker": job.owner, "chef.slot": slot}
        self._span = traces.begin("attempt", place, "consumer", facts | more, now_ns)
        #: What a log record says of it.
        self.about = self._span.about

    def phase(self, name: str) -> None:
        """A phase begins."""
        self._phases.append((name, time.time_ns()))

    def end(self, result: Result | None, why: str = "") -> None:
        """The attempt is over. Without a result it was stopped, and `why` says why."""
        now_ns = time.time_ns()
        for name, start_ns, end_ns in laid_out(self._phases, result.phases if result else (), now_ns):
            self._traces.begin(name, self._span.place, start_ns=start_ns).end(end_ns=end_ns)
        reason = result.reason.value if result and result.reason else why
        self._span.note({"chef.conclusion": result and result.conclusion.value, "chef.reason": reason})
        is_well = result is None or result.conclusion in {Conclusion.SUCCESS, Conclusion.CANCELLED}
        self._span.end(failed="" if is_well else reason, end_ns=now_ns)


def waiting_since_ms(job: Job) -> int:
    """When the wait began that this attempt has ended: when the job came in, or its last run ended, or it was due."""
    ends = [str(each["finishedAt"]) for each in job.attempts if each.get("finishedAt")]
    last_ms = round(datetime.fromisoformat(ends[-1]).timestamp() * 1000) if ends else job.created_ms
    return max(last_ms, job.run_at_ms)


def laid_out(begun: Sequence[tuple[str, int]], phases: Sequence[PhaseTime], end_ns: int) -> list[tuple[str, int, int]]:
    """Each phase with the moments (Unix nanoseconds) of its beginning and its end.

    A phase that is not among `phases` was cut off: by the next one, or by the end. One that told no beginning is not
    shown, for nobody knows when it was.
    """
    left, shown = list(phases), []
    nexts = [start_ns for _, start_ns in begun[1:]] + [end_ns]
    for (name, start_ns), next_ns in zip(begun, nexts, strict=False):
        known = next((each for each in left if each.name == name), None)
        if known:
            left.remove(known)
        over_ns = start_ns + known.duration_ms * NS_PER_MS if known else next_ns
        shown.append((name, start_ns, min(over_ns, next_ns)))
    return shown


def span_of_submission(traces: Tracing, trace: str) -> tuple[Span | None, str]:
    """Where a job belongs that comes with no trace of its own: a span to end once it is taken in, and its place."""
    if trace:
        return None, trace
    span = traces.begin("submit", None, "producer")
    return span, span.place.text if span.place else ""
