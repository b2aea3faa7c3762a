"""The random runs, small in the tests and large in chaos.py; each replays from its seed (CHAOS_SEED)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from errors import StoreUnavailable
from tests.faults.client import Client
from tests.faults.ledger import Verdict
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
    note: str = ""


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
        load = f"{jobs} jobs, {kills} kills"
        why = ", ".join(f"{number} as {reason}" for reason, number in reasons(service).items())
        recovery_s = recoveries(service, moments)
        return Outcome(load, seed, verdict, recovery_s, failed=unsuccessful(service), note=why)


def unsuccessful(service: Service) -> int:
    """How many jobs did not succeed."""
    return sum(reasons(service).values())


def reasons(service: Service) -> Counter[str]:
    """Why jobs did not succeed."""
    records = [service.store.get(job_id) for job_id in service.sent.acknowledged]
    return Counter(record.reason for record in records if record.conclusion != "success")


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


def random_freezes(jobs: int, freezes: int) -> Outcome:
    """SIGSTOP of a random worker for one and a half leases, again and again, under jobs that go on."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service:
        for n in range(jobs):
            service.add(Plan(ms=random.randint(20, 300)).request(f"chat-{n % 7}"))
        _spread(service, random, freezes, lambda worker: _freeze(worker, 1.5 * 1.5))
        verdict = service.settle(seconds=60)
        refused = service.store.counters().get("stale_refused", 0)
        load = f"{jobs} jobs, {freezes} freezes"
        return Outcome(load, seed, verdict, failed=unsuccessful(service), note=f"{refused} stale writes refused")


def _freeze(worker: subprocess.Popen[bytes], seconds: float) -> float:
    worker.send_signal(signal.SIGSTOP)
    moment = time.monotonic()
    time.sleep(seconds)
    worker.send_signal(signal.SIGCONT)
    return moment


def idle_recoveries(times: int, lease_s: float) -> Outcome:
    """kill -9 of the worker of the only job there is."""
    seed = new_seed()
    with running(workers=2, LEASE_SECONDS=str(lease_s)) as service:
        recovery_s = []
        for _ in range(times):
            job = service.add(Plan(ms=1500).request())
            service.started(job.id)
            pid = service.ledger.starts(job.id)[0].pid
            killed = service.kill(next(worker for worker in service.living() if worker.pid == pid))
            recovery_s.append(service.started(job.id, 2, lease_s + 15) - killed)
            service.ended(job.id)
        load = f"{times} jobs one by one, lease {lease_s:g} s"
        return Outcome(load, seed, service.settle(), recovery_s, failed=unsuccessful(service))


def quiet_jobs(ms: int, lease_s: float) -> Outcome:
    """Jobs that say nothing for several leases, in workers that are let live."""
    seed = new_seed()
    with running(workers=2, LEASE_SECONDS=str(lease_s)) as service:
        for n in range(4):
            service.add(Plan(ms=ms).request(f"chat-{n}"))
        verdict = service.settle(seconds=30 + 2 * ms / 1000)
        load = f"4 jobs of {ms / 1000:g} s, lease {lease_s:g} s"
        return Outcome(load, seed, verdict, failed=unsuccessful(service))


def poison(poisons: int, neighbours: int) -> Outcome:
    """Jobs that kill their worker each time, among others; `failed` counts the others."""
    seed = new_seed()
    with running(workers=2) as service:
        killers = [service.add(Plan(die=True).request(f"poisoner-{n}")).id for n in range(poisons)]
        for n in range(neighbours):
            service.add(Plan(ms=30).request(f"chat-{n}"))
        records = [service.ended(job_id, 60) for job_id in killers]
        verdict = service.settle(seconds=60)
        assert {(record.reason, record.stalls) for record in records} == {("worker_lost", 3)}
        assert {record.fence for record in records} == {3}  # claims
        failed = unsuccessful(service) - poisons
        return Outcome(f"{poisons} poison and {neighbours} other jobs", seed, verdict, failed=failed)


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
        verdict = service.settle(seconds=60)
        return Outcome(f"{jobs} jobs, {2 * rounds} restarts", seed, verdict, failed=unsuccessful(service))


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
        load = f"{jobs} jobs, {kills} kills, {down_s:g} s down"
        return Outcome(load, seed, verdict, recovery_s, failed=unsuccessful(service))


def _next_start(service: Service, since_s: float) -> float:
    """How long until a job starts."""
    extra = service.add(Plan(ms=20).request("after"))
    return service.started(extra.id) - since_s


def submissions_kept(kills: int) -> Outcome:
    """kill -9 of Redis while jobs are submitted as fast as they are taken: what was acknowledged is kept."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service, ThreadPoolExecutor(1) as callers:
        over = threading.Event()
        flood = callers.submit(_submit_until, service, over)
        for _ in range(kills):
            time.sleep(random.uniform(0.1, 0.3))  # the moment within a write is what is random
            service.redis.kill()
            service.redis.start()
        over.set()
        refused = flood.result()
        load = f"{len(service.sent.acknowledged)} acknowledged, {refused} unanswered, {kills} kills"
        return Outcome(load, seed, service.settle(seconds=90), failed=unsuccessful(service))


def _submit_until(service: Service, over: threading.Event) -> int:
    """How many submissions were not answered."""
    while not over.is_set():
        try:
            service.add(Plan(ms=1).request(f"chat-{len(service.sent.acknowledged) % 50}"))
        except StoreUnavailable:
            service.sent.unanswered += 1
            over.wait(0.02)
    return service.sent.unanswered


def silent_partition(lease_s: float) -> Outcome:
    """A worker whose Redis falls silent, beside one that hears it; the moment of the first one's stop is the note."""
    seed = new_seed()
    with running(workers=0, LEASE_SECONDS=str(lease_s)) as service:
        proxy = Proxy(("127.0.0.1", service.redis.port))
        with proxy.serve() as address:
            service.start_worker(REDIS_URL=f"redis://{address[0]}:{address[1]}/0")
            job = service.add(Plan(ms=int(lease_s * 2000)).request())
            service.started(job.id)
            proxy.fall_silent()
            silent = time.monotonic()
            healthy = service.start_worker()
            again = service.started(job.id, 2, lease_s + 15)
            stopped = [step.at_s for step in service.ledger.steps(job.id) if step.event == "stopped"]
            verdict = service.settle(seconds=30 + 2 * lease_s)
            service.signal(healthy, signal.SIGTERM)
            proxy.speak()
            later = service.ended(service.add(Plan().request()).id)
            assert later.status == "completed"  # by the worker that was cut off
    assert min(stopped) < again
    note = f"the first run stopped after {stopped[0] - silent:.1f} s"
    return Outcome(f"1 job, lease {lease_s:g} s", seed, verdict, [again - silent], note=note)


def racing_cancels(jobs: int) -> Outcome:
    """A cancellation for each job, at a random moment from before its start to after its end."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service:
        service.ended(service.add(Plan(ms=1).request()).id)  # the workers are up
        for n in range(jobs):
            # A running job hears of it at a renewal of its lease, every 300 ms here: some end just before or after one.
            job = service.add(Plan(ms=random.choice([1, 60, 280, 330])).request(f"chat-{n}"))
            time.sleep(random.choice([0, random.uniform(0, 0.1)]))  # somewhere around claim and finish
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


def api_kills(kills: int) -> Outcome:
    """kill -9 of a random process that serves requests, while four callers submit; each repeats what was cut off."""
    seed = new_seed()
    random = Random(seed)
    with running(workers=2) as service, ThreadPoolExecutor(4) as callers:
        client = service.start_api()
        over = threading.Event()
        taken = [callers.submit(_call_until, client, over, f"caller-{n}") for n in range(4)]
        for _ in range(kills):
            time.sleep(random.uniform(0.05, 0.5))  # the moment within a request is what is random
            service.until(lambda: children(service.api.pid), 5, "a process that serves")
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(children(service.api.pid)), signal.SIGKILL)
        over.set()
        sent = sum(future.result() for future in taken)
        assert len(set(service.sent.acknowledged)) == sent
        load = f"{sent} requests, {kills} kills, {client.broken} cut off"
        return Outcome(load, seed, service.settle(seconds=90), failed=unsuccessful(service))


def _call_until(client: Client, over: threading.Event, name: str) -> int:
    """How many jobs were submitted, each with a key of its own."""
    sent = 0
    while not over.wait(0.02):
        client.submit(Plan(ms=10), f"{name}-{sent % 7}", f"{name}-{sent}")
        sent += 1
    return sent


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
