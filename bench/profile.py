"""What the hardening costs: examples/react-app in plain `docker run` with limits, and in the full profile, in turns.

Both install and build in two containers with the same image, commands and limits. Plain `docker run` is root with the
engine's own filter and network, and a folder of the host, in the same control group, so that other work on the machine
slows them alike; the profile is all of executor/spec.py, with the keeper, the
proxy and the collector around it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import docker

import config
import demo
from bench import measure
from bench.build import LONGEST_S, Times, builds_table, copy_example, limits
from errors import SetupError
from executor import Executor, Wish, house
from executor.images import NODE, Images
from jobs import Artifact, Job, JobType, OutputChunk, Phase, Request, Status, new_id
from stack import unique_prefix

INSTALL = "npm ci --no-audit --no-fund --ignore-scripts"
BUILD = "npm run build"


def run(rounds: int) -> str:
    """The table."""
    with tempfile.TemporaryDirectory(prefix="cw-bench-") as name:
        images = Images(Path(name) / "images")
        image = images.ensure(docker.from_env(), NODE)
        executors = {
            place: Executor(None, images, service=unique_prefix(), wish=Wish(workspace=place, slots=1))
            for place in ("memory", "disk")
        }
        parent = house.parent(docker.from_env().info())
        contenders = {"docker run, with the limits of a job": partial(plain, image, Path(name), parent)}
        for place, executor in executors.items():
            contenders[f"the full profile, workspace {'in memory' if place == 'memory' else 'on disk'}"] = partial(
                profiled, executor
            )
        for executor in executors.values():
            profiled(executor)  # starts its proxy
        measured = measure.in_turns(rounds, contenders)
        for executor in executors.values():
            executor.close()
    return builds_table(measured, "plain")


def plain(image: str, folder: Path, parent: str) -> Times:
    """Two plain containers, one after the other, on a copy of the example; removing the copy is not counted."""
    project = folder / "plain"
    copy_example(project)
    try:
        began = time.perf_counter()
        install = contained(image, project, parent, INSTALL)
        build = contained(image, project, parent, BUILD)
        return Times(time.perf_counter() - began, install, build)
    finally:
        shutil.rmtree(project)


def contained(image: str, project: Path, parent: str, command: str) -> float:
    """Seconds of one `docker run --rm`."""
    container = ["timeout", str(LONGEST_S), "docker", "run", "--rm", "-u", "0", "-e", "HOME=/root", "-e", "CI=true"]
    began = time.perf_counter()
    container += ["--cgroup-parent", parent] if parent else []
    measure.quietly([*container, *limits(), "-w", "/app", "-v", f"{project}:/app", image, "sh", "-c", command])
    return time.perf_counter() - began


class Watch:
    """Hears of a run and reads its files, as a worker does, and keeps nothing."""

    def output(self, chunk: OutputChunk) -> None:
        """Take the next part of the log."""

    def progress(self, percent: int, phase: Phase) -> None:
        """Hear that a phase begins."""

    def stopped(self) -> bool:
        return False

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        return Artifact(path, sum(map(len, blocks)), "")


def profiled(executor: Executor) -> Times:
    """One run of the executor, from its call to its return: files in, files out, everything removed."""
    files = {str(path.relative_to(demo.EXAMPLE)): path.read_text() for path in demo.project_files(demo.EXAMPLE)}
    job = Job(new_id(), JobType.BUILD, Status.ACTIVE, priority=5, created_ms=0, fence=1)
    began = time.perf_counter()
    result = executor.run(job, Request(JobType.BUILD, files), config.load({}).limits, 0, Watch())
    total = time.perf_counter() - began
    if result.reason:
        raise SetupError(f"the job failed: {result.message}")
    seconds = {phase.name: phase.duration_ms / 1000 for phase in result.phases}
    return Times(total, seconds[Phase.INSTALLING], seconds[Phase.BUILDING])
