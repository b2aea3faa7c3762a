"""The random runs in real containers, and under an engine that is harmed."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from random import Random

from executor import Executor
from executor.images import Images
from tests.faults.containers import Engine, running_containers, waiting_project
from tests.faults.private_engine import PrivateEngine
from tests.faults.proxy import Proxy
from tests.faults.scenarios import Outcome, new_seed, reasons, unsuccessful
from tests.faults.service import REAL, Service

#: No later attempt removes the last container of a job that lost its third worker: the sweep, once a minute, does.
CALM_S = 75.0


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
        verdict = service.settle(seconds=90, zombies=lambda: after(CALM_S, engine.objects))
        fences = sum(service.store.get(job_id).fence for job_id in service.sent.acknowledged)
        verdict = replace(verdict, reruns=fences - jobs)
        load = f"{jobs} container jobs, {kills} kills"
        return Outcome(load, seed, verdict, failed=unsuccessful(service))


def after(seconds: float, look: Callable[[], list[str]]) -> list[str]:
    """What is still there when it should have gone, at most `seconds` later."""
    deadline = time.monotonic() + seconds
    while look() and time.monotonic() < deadline:
        time.sleep(0.1)
    return look()


def engine_away(jobs: int, seconds: float, huey: str = REAL) -> Outcome:
    """Every connection to the engine refused for a while, with jobs that run and jobs that wait, and usual retries."""
    seed = new_seed()
    proxy = Proxy("/var/run/docker.sock")
    with tempfile.TemporaryDirectory(prefix="cw-proxy-") as folder:
        path = Path(folder) / "docker.sock"
        with proxy.serve(path), usual_patience(f"unix://{path}", huey=huey) as (service, engine):
            for n in range(jobs):
                service.add(waiting_project(500, f"chat-{n}"))
            service.until(engine.objects, 20, "a container")
            proxy.refuse()
            time.sleep(seconds)
            proxy.speak()
            return _container_outcome(service, engine, f"{jobs} container jobs, {seconds:g} s away", seed)


def _container_outcome(service: Service, engine: Engine, load: str, seed: int) -> Outcome:
    verdict = service.settle(seconds=120, zombies=lambda: after(CALM_S, engine.objects))
    records = [service.store.get(job_id) for job_id in service.sent.acknowledged]
    note = ", ".join(f"{number} as {reason}" for reason, number in reasons(service).items())
    reruns = sum(record.fence for record in records) - len(records)
    return Outcome(load, seed, replace(verdict, reruns=reruns), failed=unsuccessful(service), note=note)


def usual_patience(engine: str, seen_at: str = "", huey: str = REAL) -> AbstractContextManager[tuple[Service, Engine]]:
    """A service with the lease and the retries of its defaults."""
    return running_containers(
        engine=engine, seen_at=seen_at, huey=huey, LEASE_SECONDS="15", RETRY_BASE_SECONDS="2", RETRY_CAP_SECONDS="60"
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
