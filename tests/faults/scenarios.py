"""The random runs, small in the tests and large in chaos.py; each replays from its seed (CHAOS_SEED)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from executor import Executor
from executor.images import Images
from tests.faults.containers import Engine, running_containers, waiting_project
from tests.faults.ledger import Verdict
from tests.faults.private_engine import PrivateEngine
from tests.faults.proxy import Proxy
from tests.faults.scripted import Plan
from tests.faults.service import Service, running
from tests.faults.sink import moody


@dataclass(frozen=True)
class Outcome:
    """What a run came to; `recovery_s` holds a duration for each fault that interrupted a job."""

    load: str
    seed: int
    verdict: Verdict
    recovery_s: list[float] = field(default_factory=list)
    failed: int = 0  # jobs that ended, but not as their project would have


def new_seed() -> int:
    """CHAOS_SEED, or a new one; printed, so that a failing test shows it."""
    given = os.environ.get("CHAOS_SEED")  # noqa: TID251  (the one setting of these tests)
    seed = int(given) if given else secrets.randbelow(10**9)
    print(f"CHAOS_SEED={seed}")
    return seed


def random_kills(jobs: int, kills: int) -> Outcome:
    """kill -9 of a random worker, again and again, under jobs of which some fail once and a receiver that does too."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service:
        service.sink.choose = moody(Random(seed))
        for n in range(jobs):
            faults = int(random.random() < 0.2)
            service.add(Plan(ms=random.randint(20, 300), faults=faults).request(f"chat-{n % 7}"))
        moments = _spread(service, random, kills, service.kill)
        verdict = service.settle(seconds=60)
        return Outcome(f"{jobs} jobs, {kills} kills", seed, verdict, recoveries(service, moments))


def _spread(service: Service, random: Random, times: int, harm: Callable[..., float]) -> dict[int, float]:
    """`harm` a random worker that has begun something, that many times; process id -> moment."""
    moments: dict[int, float] = {}
    for _ in range(times):
        time.sleep(random.uniform(0.1, 0.6))  # the moment within a job is what is random
        service.until(lambda: _busy(service), 10, "a worker that works")
        worker = random.choice(_busy(service))
        moments[worker.pid] = harm(worker)
    return moments


def _busy(service: Service) -> list[subprocess.Popen[bytes]]:
    begun = {step.pid for step in service.ledger.starts()}
    return [worker for worker in service.living() if worker.pid in begun]


def recoveries(service: Service, moments: dict[int, float]) -> list[float]:
    """For each run that a dead worker left open: how long until the job started again."""
    steps = service.ledger.steps()
    closed = {(step.job_id, step.fence) for step in steps if step.event != "start"}
    starts = {(step.job_id, step.fence): step for step in steps if step.event == "start"}
    found = []
    for (job_id, fence), step in starts.items():
        again = starts.get((job_id, fence + 1))
        if step.pid in moments and (job_id, fence) not in closed and again:
            found.append(again.at_s - moments[step.pid])
    return found


def rolling_restarts(jobs: int, rounds: int) -> Outcome:
    """Each worker in turn is told to stop, and replaced when it has exited, while jobs go on."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service:
        for n in range(jobs):
            service.add(Plan(ms=random.randint(50, 600)).request(f"chat-{n % 7}"))
        for _ in range(rounds):
            for worker in service.living():
                service.until(lambda: _busy(service), 10, "a worker that works")
                service.signal(worker, signal.SIGTERM)
                worker.wait(10)
                service.start_worker()
        return Outcome(f"{jobs} jobs, {2 * rounds} restarts", seed, service.settle(seconds=60))


def redis_kills(jobs: int, kills: int, down_s: float) -> Outcome:
    """kill -9 of Redis under load, started again after `down_s`; the workers are left alone."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2, LEASE_SECONDS="5") as service:
        for n in range(jobs):
            service.add(Plan(ms=random.randint(50, 400)).request(f"chat-{n % 7}"))
        workers = {worker.pid for worker in service.living()}
        recovery_s = []
        for _ in range(kills):
            time.sleep(random.uniform(0.2, 0.8))  # the moment within the jobs' lives is what is random
            service.until(lambda: _busy(service), 10, "a worker that works")
            service.redis.kill()
            time.sleep(down_s)
            service.redis.start()
            recovery_s.append(_next_start(service, time.monotonic()))
        verdict = service.settle(seconds=60)
        assert {worker.pid for worker in service.living()} == workers
        return Outcome(f"{jobs} jobs, {kills} kills, {down_s:g} s down", seed, verdict, recovery_s)


def _next_start(service: Service, since_s: float) -> float:
    """How long until a job starts."""
    extra = service.add(Plan(ms=20).request("after"))
    return service.started(extra.id) - since_s


def racing_cancels(jobs: int) -> Outcome:
    """A cancellation for each job, at a random moment from before its start to after its end."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service:
        service.ended(service.add(Plan(ms=1).request()).id)  # the workers are up
        for n in range(jobs):
            job = service.add(Plan(ms=random.choice([1, 20, 60])).request(f"chat-{n}"))
            time.sleep(random.uniform(0, 0.1))  # somewhere around claim and finish
            service.store.cancel(job.id)
        verdict = service.settle()
        told = {post.job_id: json.loads(post.body)["conclusion"] for post in service.sink.results()}
        completed = {step.job_id for step in service.ledger.steps() if step.event == "end"}
        for job_id in service.sent.acknowledged:
            record = service.store.get(job_id)
            assert record.conclusion == told[job_id]
            assert record.conclusion == "cancelled" or job_id in completed
        ends = Counter(told.values())
        print(f"ends: {dict(ends)}")
        return Outcome(f"{jobs} jobs, {ends['cancelled']} cancelled in time", seed, verdict)


def api_kills(jobs: int, kills: int) -> Outcome:
    """kill -9 of a random process that serves requests, while four callers submit; each repeats what was cut off."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service, ThreadPoolExecutor(4) as callers:
        client = service.start_api()
        keys = range(jobs)
        taken = [callers.submit(client.submit, Plan(ms=30), f"chat-{n % 7}", f"key-{n}") for n in keys]
        for _ in range(kills):
            time.sleep(random.uniform(0.02, 0.3))  # the moment within a request is what is random
            service.until(lambda: children(service.api.pid), 5, "a process that serves")
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(children(service.api.pid)), signal.SIGKILL)
        ids = [future.result() for future in taken]
        assert len(set(ids)) == jobs
        load = f"{jobs} requests, {kills} kills, {client.broken} cut off"
        return Outcome(load, seed, service.settle(seconds=60))


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def container_kills(jobs: int, kills: int) -> Outcome:
    """kill -9 of a random worker under jobs in real containers; afterwards no container may be left."""
    seed = new_seed()
    random = Random(seed)
    with running_containers(LEASE_SECONDS="3") as (service, engine):
        for n in range(jobs):
            service.add(waiting_project(random.randint(200, 1000), f"chat-{n}"))
        for _ in range(kills):
            service.until(lambda: service.store.stats()["builds"]["active"], 20, "a job that runs")
            time.sleep(random.uniform(0.1, 1.5))  # the moment within a run is what is random
            service.kill(random.choice(service.living()))
        verdict = service.settle(seconds=90, zombies=lambda: after(10, engine.objects))
        fences = sum(service.store.get(job_id).fence for job_id in service.sent.acknowledged)
        verdict = replace(verdict, reruns=fences - jobs)
        return Outcome(f"{jobs} container jobs, {kills} kills", seed, verdict)


def after(seconds: float, look: Callable[[], list[str]]) -> list[str]:
    """What is still there when it should have gone, at most `seconds` later."""
    deadline = time.monotonic() + seconds
    while look() and time.monotonic() < deadline:
        time.sleep(0.1)
    return look()


def engine_away(jobs: int, seconds: float) -> Outcome:
    """Every connection to the engine refused for a while, with jobs that run and jobs that wait, and usual retries."""
    seed = new_seed()
    proxy = Proxy("/var/run/docker.sock")
    with tempfile.TemporaryDirectory(prefix="cw-proxy-") as folder:
        path = Path(folder) / "docker.sock"
        with proxy.serve(path), usual_patience(f"unix://{path}") as (service, engine):
            for n in range(jobs):
                service.add(waiting_project(500, f"chat-{n}"))
            service.until(engine.objects, 20, "a container")
            proxy.refuse()
            time.sleep(seconds)
            proxy.speak()
            return _container_outcome(service, engine, f"{jobs} container jobs, {seconds:g} s away", seed)


def _container_outcome(service: Service, engine: Engine, load: str, seed: int) -> Outcome:
    verdict = service.settle(seconds=120, zombies=lambda: after(70, engine.objects))
    records = [service.store.get(job_id) for job_id in service.sent.acknowledged]
    ends = Counter(record.conclusion for record in records)
    attempts = Counter(attempt["reason"] for record in records for attempt in record.attempts)
    print(f"ends {dict(ends)}, attempts {dict(attempts)}")
    failed = len(records) - ends["success"]
    reruns = sum(record.fence for record in records) - len(records)
    return Outcome(load, seed, replace(verdict, reruns=reruns), failed=failed)


def usual_patience(engine: str, seen_at: str = "") -> AbstractContextManager[tuple[Service, Engine]]:
    """A service with the lease and the retries of its defaults."""
    return running_containers(
        engine=engine, seen_at=seen_at, LEASE_SECONDS="15", RETRY_BASE_SECONDS="2", RETRY_CAP_SECONDS="60"
    )


def engine_harmed(harm: str, jobs: int, seconds: float) -> Outcome:
    """A private engine is killed, frozen or stopped for a while, with jobs that run and jobs that wait."""
    seed = new_seed()
    with tempfile.TemporaryDirectory(prefix="cw-engine-") as folder:
        own = PrivateEngine(Path(folder))
        with own.serve(job_images()), usual_patience(own.url, own.url) as (service, engine):
            for n in range(jobs):
                service.add(waiting_project(1000, f"chat-{n}"))
            service.until(engine.objects, 20, "a container")
            time.sleep(1)
            {"kill": own.kill, "freeze": own.freeze, "stop": own.stop}[harm]()
            time.sleep(seconds)
            {"kill": own.start, "freeze": own.thaw, "stop": own.start}[harm]()
            began = time.monotonic()
            service.until(lambda: service.store.counters().get("ended_success"), 60, "a job that succeeds")
            recovery_s = [time.monotonic() - began]
            outcome = _container_outcome(service, engine, f"{jobs} container jobs, {seconds:g} s", seed)
            return replace(outcome, recovery_s=recovery_s)


def job_images() -> list[str]:
    """The images that jobs run in."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Executor(None, Images(Path(folder)))) as executor:
        return executor.prepare()
