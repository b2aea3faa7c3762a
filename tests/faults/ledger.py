"""Three ledgers that do not trust the service, and the verdict over them.

The caller's has what was acknowledged, the executor's what was run, the receiver's (sink.py) what was told to it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.sink import Post


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the executor's ledger. `event`: start, end (a result was handed over), stopped or fault."""

    job_id: str
    fence: int
    attempt: int
    pid: int
    event: str
    at_s: float  # of the monotonic clock, which all processes of a machine share


@dataclass(frozen=True, slots=True)
class RunLedger:
    """A file that workers append to. One line is one write, so lines of several processes do not mix."""

    path: Path

    def write(self, job_id: str, fence: int, attempt: int, event: str) -> None:
        line = f"{job_id} {fence} {attempt} {os.getpid()} {event} {time.monotonic():.4f}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def steps(self, job_id: str = "") -> list[Step]:
        """All steps so far, or those of one job, in the order in which they happened."""
        rows = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [
            Step(row[0], int(row[1]), int(row[2]), int(row[3]), row[4], float(row[5]))
            for row in rows
            if job_id in {"", row[0]}
        ]

    def starts(self, job_id: str = "") -> list[Step]:
        """The starts among them."""
        return [step for step in self.steps(job_id) if step.event == "start"]


@dataclass
class Submissions:
    """The caller's ledger: ids that were acknowledged, and how many requests were sent whose fate is unknown."""

    acknowledged: list[str] = field(default_factory=list)
    unanswered: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the ledgers say of a run, after it has come to rest; lists hold job ids."""

    jobs: int
    lost: list[str]  # acknowledged, but no end was accepted by the receiver
    unexpected: list[str]  # ended, but never acknowledged, and not for want of an answer
    finished_twice: list[str]  # two different accepted results
    ghosts: list[str]  # not ended in the store although nothing runs
    zombies: list[str]  # containers without a running job
    overlaps: list[str]  # handed over a result although a later run of the job had started
    reruns: int  # starts beyond the first of each job, and beyond those that a planned fault asked for

    def clean(self) -> bool:
        """True if every promise was kept; runs beyond the first are budgeted by the caller."""
        return not (self.lost or self.unexpected or self.finished_twice or self.ghosts or self.zombies)

    def __str__(self) -> str:
        bad = {name: len(getattr(self, name)) for name in ("lost", "unexpected", "finished_twice", "ghosts", "zombies")}
        counts = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in bad.items())
        return f"{self.jobs} jobs: {counts}, overlaps {len(self.overlaps)}, run again {self.reruns}"


def judge(
    sent: Submissions, steps: list[Step], posts: Iterable[Post], ghosts: list[str], zombies: list[str]
) -> Verdict:
    """The verdict over the three ledgers."""
    ends: dict[str, set[str]] = defaultdict(set)
    for post in posts:
        if post.accepted and post.event == "result":
            ends[post.job_id].add(_told(post))
    acknowledged = set(sent.acknowledged)
    strangers = sorted(set(ends) - acknowledged)
    starts = {step.job_id for step in steps if step.event == "start"}
    events = Counter(step.event for step in steps)
    return Verdict(
        jobs=len(acknowledged),
        lost=sorted(acknowledged - set(ends)),
        unexpected=strangers[sent.unanswered :],
        finished_twice=sorted(job_id for job_id, told in ends.items() if len(told) > 1),
        ghosts=ghosts,
        zombies=zombies,
        overlaps=_overlaps(steps),
        reruns=events["start"] - events["fault"] - len(starts),
    )


def _told(post: Post) -> str:
    """What makes two posts the same end: the id, and everything that says how it ended."""
    body = json.loads(post.body)
    return json.dumps([post.webhook_id, *(body.get(name) for name in ("status", "conclusion", "reason", "timestamp"))])


def _overlaps(steps: list[Step]) -> list[str]:
    newest: dict[str, int] = defaultdict(int)
    found = []
    for step in steps:
        if step.event == "start":
            newest[step.job_id] = max(newest[step.job_id], step.fence)
        elif step.event == "end" and step.fence < newest[step.job_id]:
            found.append(step.job_id)
    return found
