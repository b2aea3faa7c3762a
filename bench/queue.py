"""How fast jobs go in, through and out, and how soon one starts: this service beside stock Huey, RQ, Celery and BullMQ.

Jobs do nothing; one counts as done when its result is recorded. Every queue runs its own stock worker command on the
same Redis server, one after the other, in turns.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import measure, moves, nodejs
from bench.redis_server import Server, private_server
from errors import SetupError
from stack import ROOT, venv

JOBS = 2_000
PROBES = 40
#: Counting begins when so many are done, and ends when all are, or after so long.
WARM_UP_JOBS = 50
LONGEST_S = 2.0
START_S = 20.0
#: How many jobs at once: one, and as many as a small machine runs.
AT_ONCE = (1, 4)


@dataclass(frozen=True)
class Contender:
    """One queue. `produce` answers the verbs of bench/produce.py; `work` is the command of a worker for n jobs at once;
    `done` counts recorded results.
    """

    name: str
    produce: list[str]
    work: Callable[[int], list[str]]
    done: Callable[[], int]
    environment: dict[str, str]
    folder: Path = ROOT
    fsync: str = "everysec"


@dataclass
class Figures:
    """What one turn measured: jobs per second, and seconds until a probe started."""

    submitted: float = 0.0
    done: dict[int, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)


def run(rounds: int) -> str:
    """Both tables: the queues side by side, and our moves alone (moves.py)."""
    with tempfile.TemporaryDirectory(prefix="cw-bench-") as name, private_server(Path(name)) as server:
        folder = Path(name)
        alone = moves.run(server, rounds)
        turns = {each.name: partial(turn, each, server, folder) for each in contenders(server, folder)}
        measured = measure.in_turns(rounds, turns)
        head = f"{server.version} | submit/s | done/s, 1 at once | done/s, 4 at once | start p50 ms | start p99 ms"
        beside = measure.table(head, [row(name, figures) for name, figures in measured.items()])
        return f"{beside}\n\n{alone}"


def row(name: str, turns: list[Figures]) -> list[str]:
    """One line of the table."""
    delays = [delay * 1000 for figures in turns for delay in figures.delays]
    rates = [measure.spread(figures.done[at_once] for figures in turns) for at_once in AT_ONCE]
    submitted = measure.spread(figures.submitted for figures in turns)
    return [name, submitted, *rates, *(f"{measure.quantile(delays, percent):.1f}" for percent in (50, 99))]


def turn(contender: Contender, server: Server, folder: Path) -> Figures:
    """One round of one contender."""
    figures = Figures()
    for at_once in AT_ONCE:
        clean(contender, server)
        figures.submitted = JOBS / float(produced(contender, "submit", JOBS))
        with working(contender, at_once, folder):
            figures.done[at_once] = done_per_second(contender)
    clean(contender, server)
    with working(contender, AT_ONCE[-1], folder):
        produced(contender, "probe", 1)  # waits for the worker, and warms it up
        figures.delays = json.loads(produced(contender, "probe", PROBES))
    return figures


def clean(contender: Contender, server: Server) -> None:
    """An empty server that syncs as this contender wants it."""
    server.empty()
    server.sync(contender.fsync)


def done_per_second(contender: Contender) -> float:
    """Jobs whose result is recorded, per second, once the worker is at it."""
    wait_for_done(contender, WARM_UP_JOBS)
    began, before = time.perf_counter(), contender.done()
    done = before
    while done < JOBS and time.perf_counter() < began + LONGEST_S:
        time.sleep(0.005)
        done = contender.done()
    return (done - before) / (time.perf_counter() - began)


def wait_for_done(contender: Contender, jobs: int) -> None:
    """Until so many are done. Raises SetupError if that takes 20 s."""
    deadline = time.monotonic() + START_S
    while contender.done() < jobs:
        if time.monotonic() > deadline:
            raise SetupError(f"{contender.name}: its worker did not get {jobs} jobs done in {START_S:.0f} s")
        time.sleep(0.002)


def produced(contender: Contender, verb: str, times: int) -> str:
    """What the producer prints."""
    command = [*contender.produce, verb, str(times)]
    done = subprocess.run(
        command, cwd=contender.folder, env=contender.environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SetupError(f"{contender.name}: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def working(contender: Contender, at_once: int, folder: Path) -> Iterator[None]:
    """A worker of this contender; what it prints goes to a file."""
    command = contender.work(at_once)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command, cwd=contender.folder, env=contender.environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            # All of it at once: pools keep processes, and what is measured is over.
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def contenders(server: Server, folder: Path) -> list[Contender]:
    """All of them, each with a database of its own."""
    node = nodejs.installed(folder)
    return [
        chef(server, folder, "always"),
        chef(server, folder, "everysec"),
        stock_huey(server),
        stock_rq(server),
        stock_celery(server),
        bullmq(server, folder, node),
    ]


def chef(server: Server, folder: Path, fsync: str) -> Contender:
    """This service, with what it ships (`always`) or with the peers' usual setting."""
    client = server.database(0)
    settings = {"REDIS_URL": server.url(0), "DATA_DIR": str(folder / "data"), "MAX_QUEUED_JOBS": "1000000"}

    def work(at_once: int) -> list[str]:
        # A thread more than slots, as stack.worker_command has it; the slots are a setting.
        options = ["-k", "thread", "-w", str(at_once + 1), "-q"]
        return ["env", f"MAX_CONCURRENT_WORKERS={at_once}", venv("huey_consumer"), "bench.queues.chef.huey", *options]

    return Contender(
        f"Chef Workers, {fsync}",
        producer("chef"),
        work,
        lambda: int(client.zcard("cw:ended:builds:completed")),
        environment(server.url(0)) | settings | {"LOG_LEVEL": "WARNING"},
        fsync=fsync,
    )


def stock_huey(server: Server) -> Contender:
    """Huey with the Redis storage that has priorities, in threads."""
    client = server.database(1)
    return Contender(
        "Huey",
        producer("stock_huey"),
        lambda n: [venv("huey_consumer"), "bench.queues.stock_huey.huey", "-k", "thread", "-w", str(n), "-q"],
        lambda: int(client.hlen("huey.results.bench")),
        environment(server.url(1)),
    )


def stock_rq(server: Server) -> Contender:
    """RQ, whose worker forks for each job."""
    client = server.database(2)
    url = server.url(2)

    def work(at_once: int) -> list[str]:
        pool = ["worker-pool", "-n", str(at_once)] if at_once > 1 else ["worker"]
        return [venv("rq"), *pool, "-q", "-u", url]

    return Contender(
        "RQ",
        producer("stock_rq"),
        work,
        lambda: int(client.zcard("rq:finished:default")),
        environment(url),
    )


def stock_celery(server: Server) -> Contender:
    """Celery with its prefork pool."""
    results = server.database(4)
    command = [venv("celery"), "-A", "bench.queues.stock_celery", "worker", "-l", "error", "-c"]
    return Contender(
        "Celery",
        producer("stock_celery"),
        lambda n: [*command, str(n)],
        lambda: int(results.dbsize()),
        environment(server.url(3)) | {"BENCH_RESULTS_URL": server.url(4)},
    )


def bullmq(server: Server, folder: Path, programs: Path) -> Contender:
    """BullMQ: one Node process."""
    client = server.database(5)
    node = [nodejs.binary(), "bullmq.mjs"]
    return Contender(
        "BullMQ",
        node,
        lambda n: [*node, "work", str(n)],
        lambda: int(client.zcard("bull:bench:completed")),
        nodejs.environment(folder) | {"BENCH_URL": server.url(5)},
        programs,
    )


def producer(module: str) -> list[str]:
    """The command of a producer that is Python."""
    return [sys.executable, "-m", "bench.produce", module]


def environment(url: str) -> dict[str, str]:
    """What programs of this machine see, and the database to use."""
    return {**os.environ, "BENCH_URL": url, "PYTHONPATH": str(ROOT)}
