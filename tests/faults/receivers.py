"""A receiver that is down for hours, beside one that is up, while workers die: a whole service on a faster clock."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import standardwebhooks

from submission import Options
from tests.faults.scenarios import Outcome, new_seed, unsuccessful
from tests.faults.scripted import Plan
from tests.faults.service import Service, running
from tests.faults.sink import Mood, Post, Sink, moody
from webhook import RETRY_DELAYS_S, new_secret

HOURS_AWAY = 6
#: How long the last try may be away when the receiver returns. After six hours it is the fifth wait, of five hours; a
#: sender that dies costs its delivery a try, which happens to some of them once or twice.
LONGEST_WAIT_S = 1.2 * RETRY_DELAYS_S[4 + 2]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is. `clock` is how many times faster than in earnest webhooks are tried again.

    `p95_ms` is within how long the receiver that is up must have 95 % of the ends.
    """

    jobs: int
    clock: float
    kill_every_s: float
    p95_ms: float = 1_000

    @property
    def outage_s(self) -> float:
        """How long the receiver is down, on the clock of the run."""
        return HOURS_AWAY * 3_600 / self.clock


def receiver_away(size: Size) -> Outcome:
    """One receiver refuses everything for six hours, the other now and then; a worker is killed again and again."""
    seed = new_seed()
    random = Random(seed)
    secret = new_secret()
    up_at = time.monotonic() + size.outage_s
    away = Sink(lambda _: Mood.ACCEPT if time.monotonic() > up_at else Mood.REFUSE)
    with away.serve():
        endpoint = {"away": {"url": f"http://127.0.0.1:{away.port}", "secret": secret}}
        with running(2, WEBHOOK_CLOCK=str(size.clock), WEBHOOK_ENDPOINTS=json.dumps(endpoint)) as service:
            service.sink.choose = moody(Random(seed))
            with dying(service, random, size.kill_every_s) as killed:
                submit(service, random, size, up_at)
                until_told(service, up_at + LONGEST_WAIT_S / size.clock + 30)
            verdict = service.settle()
            for sink, signed_by in ((service.sink, service.settings["WEBHOOK_SECRET"]), (away, secret)):
                assert effects(sink.posts) == dict.fromkeys(service.sent.acknowledged, 1)
                assert_same_at_every_try(sink.results(), signed_by)
            waits = [waited_ms(service, job_id) for job_id in service.sent.acknowledged]
            load = f"{size.jobs} jobs, {killed[0]} kills, {HOURS_AWAY} h at {size.clock:g} times the speed"
            return Outcome(
                load, seed, verdict, failed=unsuccessful(service), note=told(waits, away, up_at, size.p95_ms)
            )


@contextmanager
def dying(service: Service, random: Random, every_s: float) -> Iterator[list[int]]:
    """While entered, kills a random worker every few seconds; the list holds how many were.

    One that replaces another needs seconds to come up on a busy machine: the last one that serves is let live.
    """
    over, killed = threading.Event(), [0]

    def kill() -> None:
        while not over.wait(every_s):
            service.until(lambda: over.is_set() or len(serving(service)) > 1, 30, "a second worker")
            if not over.is_set():
                service.kill(random.choice(serving(service)))
                killed[0] += 1

    killer = threading.Thread(target=kill, name="killer")
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def serving(service: Service) -> list[subprocess.Popen[bytes]]:
    """The workers that live and have said so."""
    heard = {seen.name.rpartition(":")[2] for seen in service.store.workers()}
    return [worker for worker in service.living() if str(worker.pid) in heard]


def submit(service: Service, random: Random, size: Size, up_at: float) -> None:
    """Jobs that end over most of the outage, each told to both receivers."""
    begin = up_at - size.outage_s
    for number in range(size.jobs):
        time.sleep(max(0.0, begin + number * 0.8 * size.outage_s / size.jobs - time.monotonic()))
        plan = Plan(ms=random.randint(5, 40))
        service.add(plan.request(f"chat-{number % 7}"), Options(webhook=("default", "away")))


def until_told(service: Service, deadline: float) -> None:
    """Wait until nothing is left to send."""

    def over() -> bool:
        lanes = service.store.lanes(["default", "away"]).values()
        reported = {post.job_id for post in service.sink.results()}
        return reported.issuperset(service.sent.acknowledged) and not any(lane.pending for lane in lanes)

    service.until(over, deadline - time.monotonic(), "every end is told")
    assert not any(lane.exhausted for lane in service.store.lanes().values())


def effects(posts: list[Post]) -> dict[str, int]:
    """How often a receiver that knows the ids it has seen would have acted on an end, by job."""
    ids = defaultdict(set)
    for post in posts:
        if post.accepted and post.event == "result":
            ids[post.job_id].add(post.webhook_id)
    return {job_id: len(each) for job_id, each in ids.items()}


def assert_same_at_every_try(posts: list[Post], secret: str) -> None:
    """One id is one body, signed anew each time, with a signature that the reference library accepts."""
    bodies = defaultdict(set)
    for post in posts:
        bodies[post.webhook_id].add(post.body)
        standardwebhooks.Webhook(secret).verify(post.body, post.headers)
    assert all(len(each) == 1 for each in bodies.values())


def waited_ms(service: Service, job_id: str) -> int:
    """From a job's end until the receiver that is up had it."""
    listed = service.store.deliveries_of(job_id)
    (end,) = [each for each in listed if (each.delivery.endpoint, each.delivery.event.path) == ("default", "result")]
    moment: int = end.tries[-1]["at_ms"]
    return moment - end.delivery.created_ms


def told(waits: list[int], away: Sink, up_at: float, p95_ms: float) -> str:
    """The figures; breaks the run if the living receiver had to wait."""
    p95 = statistics.quantiles(waits, n=20)[-1]
    late_s = time.monotonic() - up_at
    note = f"to the one that is up, 95 % within {p95:.0f} ms, all within {max(waits) / 1_000:.1f} s; "
    note += f"to the other {len(away.posts)} tries, done within {late_s:.0f} s of its return"
    assert p95 < p95_ms, note
    return note
