"""The store's moves alone, without Huey or a worker around them: what they cost, and whether a long line costs more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench import measure
from bench.redis_server import Server
from jobs import Conclusion, Job, JobType, Request, Result
from store import Rules, Store

T = TypeVar("T")
SHORT, LONG = 100, 100_000
CHATS = 1_000
JOBS = 400
READS = 50
#: Databases of the short and the long line: behind those of queue.py, and they stay filled.
DATABASES = {SHORT: 6, LONG: 7}
#: (how the append-only file is synced, jobs that wait, threads)
CASES = (
    ("always", SHORT, 1),
    ("always", SHORT, 4),
    ("everysec", SHORT, 1),
    ("everysec", SHORT, 4),
    ("everysec", LONG, 1),
)


@dataclass
class Figures:
    """What one turn measured: per second, and seconds."""

    submitted: float
    done: float
    why_waiting: float
    stats: float


def run(server: Server, rounds: int) -> str:
    """The table. The server is empty before, and is not afterwards."""
    server.sync("no")
    stores = {waiting: filled(server, waiting) for waiting in DATABASES}
    turns = {
        f"{waiting:,} waiting, {when}, {threads} thread{'s' * (threads > 1)}": partial(
            turn, server, stores[waiting], when, threads
        )
        for when, waiting, threads in CASES
    }
    measured = measure.in_turns(rounds, turns)
    head = "our moves alone | submit/s | claim + finish/s | why a job waits, ms | stats, ms"
    return measure.table(head, [row(name, figures) for name, figures in measured.items()])


def row(name: str, turns: list[Figures]) -> list[str]:
    """One line of the table."""
    return [
        name,
        measure.spread(figures.submitted for figures in turns),
        measure.spread(figures.done for figures in turns),
        measure.spread((figures.why_waiting * 1000 for figures in turns), 2),
        measure.spread((figures.stats * 1000 for figures in turns), 2),
    ]


def filled(server: Server, waiting: int) -> Store:
    """A store in which so many jobs wait, of many chats and all priorities."""
    store = Store(server.url(DATABASES[waiting]), notify=False, rules=Rules(queue_bound=2 * LONG))
    for request in itertools.islice(requests(), waiting):
        store.add(request)
    measure.say(f"{waiting:,} jobs wait")
    return store


def requests() -> Iterator[Request]:
    """Small jobs without end."""
    for number in itertools.count():
        chat = f"chat{number * 7 % CHATS}"
        yield Request(JobType.BUILD, {"package.json": "{}"}, priority=number % 20 + 1, chat_id=chat)


def turn(server: Server, store: Store, when: str, threads: int) -> Figures:
    """As many jobs out as came in, so that the line stays as long as it was."""
    server.sync(when)
    added: list[Job] = []
    submitted = per_second(
        lambda request: added.append(store.add(request)), itertools.islice(requests(), JOBS), threads
    )
    done = per_second(lambda _: claim_and_finish(store), range(JOBS), threads)
    why_waiting = 1 / per_second(lambda job: store.waiting(job.id), added[-READS:], 1)
    stats = 1 / per_second(lambda _: store.stats(), range(READS), 1)
    return Figures(submitted, done, why_waiting, stats)


def claim_and_finish(store: Store) -> None:
    """What the store does for one job that does nothing."""
    job = store.claim("bench").job
    if job is None:
        raise RuntimeError("nothing waits")
    store.finish(job.id, job.fence, Result(Conclusion.SUCCESS))


def per_second(act: Callable[[T], object], items: Iterable[T], threads: int) -> float:
    """How often `act` is done per second, by so many threads with a connection each."""
    todo = list(items)
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        for _ in pool.map(act, todo):
            pass
        return len(todo) / (time.perf_counter() - began)
