"""How long examples/react-app takes to install and build: the bare host, plain `docker run`, and the whole service.

The host runs the same Node as the job image (from the wheel in bench/requirements.txt), so the floor is fair. A second
table shows where the service's time goes when the job itself does nothing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import requests

import config
import demo
from bench import measure, nodejs
from bench.redis_server import private_server
from errors import SetupError
from executor import dependencies
from executor.images import NODE, Images
from stack import running, unique_prefix

POLL_S = 0.02
#: Rounds of the cheap measurements for each round of builds.
CHEAP = 3
#: A registry that stops answering must not hold everything up.
LONGEST_S = 90
#: What separates the install from the build in the output of a plain shell.
MARK = "installed"
#: A job without anything to do: one container for the command, one to collect.
EMPTY_JOB = {"package.json": '{"private": true}', "dist/index.html": ""}


@dataclass(frozen=True)
class Times:
    """Seconds of one build: from the outside, and of its two commands."""

    total: float
    install: float
    build: float


def run(rounds: int) -> str:
    """Both tables."""
    with tempfile.TemporaryDirectory(prefix="cw-bench-") as name, service(Path(name)) as url:
        folder = Path(name)
        image = Images(folder / "images").ensure(docker.from_env(), NODE)
        host = Host(folder)
        host.install_and_build(empty_cache=True)
        builds: dict[str, Callable[[], Times]] = {
            "bare host, npm cache warm (the floor)": partial(host.install_and_build, empty_cache=False),
            "bare host, npm cache empty": partial(host.install_and_build, empty_cache=True),
            "docker run": partial(docker_run, image, folder, []),
            "docker run, with the limits of a job": partial(docker_run, image, folder, limits()),
            "the service, cold (its npm cache is always empty)": partial(through_service, url, cache="off"),
            "bare host, build alone": host.build,
            "the service, warm: dependencies shared, other sources": partial(through_service, url, changed=True),
            "the service, hot: the same again": partial(through_service, url),
        }
        for made in (True, False):  # fill what the last two find
            through_service(url, changed=made)
        whole = builds_table(measure.in_turns(rounds, builds))
        empty = partial(
            submit, url, {"type": "build", "cache": "off", "data": {"projectFiles": EMPTY_JOB, "command": "true"}}
        )
        cheap = {
            "docker run --rm true, no network": partial(start_container, image, "none"),
            "docker run --rm true, bridge": partial(start_container, image, "bridge"),
        }
        alone = measure.in_turns(rounds * CHEAP, cheap)
        parts = overhead_table([empty() for _ in range(rounds * CHEAP)], alone)
    return f"{whole}\n\n{parts}"


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The whole service with one slot; its URL."""
    with private_server(folder) as server:
        # A prefix of its own: services of one name on one engine would sweep up each other's containers.
        ours = {"DATA_DIR": str(folder), "REDIS_URL": server.url(0), "REDIS_PREFIX": unique_prefix()}
        settings = config.load({**ours, "MAX_CONCURRENT_WORKERS": "1"})
        with running(settings, measure.say, port=0, log=folder / "log") as up:
            yield up.url
        kept = {"label": f"{dependencies.LABEL}.service={settings.service}"}
        with contextlib.closing(docker.from_env()) as engine:
            for volume in engine.volumes.list(filters=kept):
                volume.remove(force=True)  # nobody would find them again


def builds_table(measured: Mapping[str, list[Times]], first: str = "floor") -> str:
    """Medians, spread, and the ratio to the first line, which is called `first`."""
    floor = statistics.median(times.total for times in next(iter(measured.values())))
    rows = [
        [
            name,
            measure.spread((times.total for times in turns), 2),
            f"{statistics.median(times.total for times in turns) / floor:.2f}",
            measure.spread((times.install for times in turns), 2),
            measure.spread((times.build for times in turns), 2),
            f"{statistics.median(times.total - times.install - times.build for times in turns):.2f}",
        ]
        for name, turns in measured.items()
    ]
    return measure.table(f"examples/react-app | total s | × {first} | install s | build s | rest s", rows)


def overhead_table(records: list[dict[str, Any]], alone: Mapping[str, list[float]]) -> str:
    """What an empty job costs, phase by phase, and what starting a container costs without us."""
    rows = [[name, measure.spread(seconds * 1000 for seconds in turns)] for name, turns in alone.items()]
    phases = {phase["name"] for record in records for phase in record["result"]["phases"]}
    parts = {f"phase {name}": [phase_s(record, name) for record in records] for name in sorted(phases)}
    parts["waiting to be claimed"] = [record["waitMs"] / 1000 for record in records]
    parts["all, POST to completed"] = [record["seconds"] for record in records]
    rows += [[f"empty job: {name}", measure.spread(value * 1000 for value in values)] for name, values in parts.items()]
    return measure.table("what it takes to do nothing | ms", rows)


def phase_s(record: Mapping[str, Any], name: str) -> float:
    """Seconds of one phase of a finished job."""
    return float(sum(phase["durationMs"] for phase in record["result"]["phases"] if phase["name"] == name)) / 1000


class Host:
    """The example on the bare host."""

    def __init__(self, folder: Path) -> None:
        self._project = folder / "host"
        self._cache = folder / "npm-cache"
        copy_example(self._project)
        self._environment = {**nodejs.environment(folder), "CI": "true", "npm_config_cache": str(self._cache)}

    def install_and_build(self, *, empty_cache: bool) -> Times:
        """`npm ci`, then the build script, without node_modules at first."""
        for made in ("dist", "node_modules"):
            shutil.rmtree(self._project / made, ignore_errors=True)
        if empty_cache:
            shutil.rmtree(self._cache, ignore_errors=True)
        return timed(shell("npm ci"), cwd=self._project, env=self._environment)

    def build(self) -> Times:
        """The build script, with node_modules there."""
        shutil.rmtree(self._project / "dist", ignore_errors=True)
        return timed(shell(":"), cwd=self._project, env=self._environment)


def copy_example(target: Path) -> None:
    """A copy of the example without what builds made."""
    shutil.copytree(demo.EXAMPLE, target, ignore=shutil.ignore_patterns("node_modules", "dist"))


def shell(install: str) -> list[str]:
    """Both commands in a shell that says when the first one is done; it is ended if they hang."""
    both = f"set -e; {install} --no-audit --no-fund; echo {MARK} $(date +%s.%N); npm run build"
    return ["timeout", str(LONGEST_S), "sh", "-c", both]


def timed(command: list[str], **options: Any) -> Times:
    """Run what shell() made, here or in a container; both have this machine's clock."""
    began = time.time()
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    ended = time.time()
    mark = re.search(rf"^{MARK} ([\d.]+)$", done.stdout, re.MULTILINE)
    if done.returncode or not mark:
        raise SetupError(f"`{' '.join(command)}` failed with code {done.returncode}:\n{done.stderr[-2000:]}")
    return Times(ended - began, float(mark[1]) - began, ended - float(mark[1]))


def limits() -> list[str]:
    """What the service gives one job by default, as options of docker run; executor/spec.py gives the small share too:
    on a busy machine jobs come last.
    """
    job = config.load({}).limits
    memory = str(job.memory_bytes)
    share = ["--cpu-shares", "64", "--pids-limit", str(job.pids)]
    return ["--cpus", str(job.cpus), "--memory", memory, "--memory-swap", memory, *share]


def docker_run(image: str, folder: Path, options: list[str]) -> Times:
    """A plain container, as root, on a copy of the example that is mounted into it."""
    project = folder / "docker"
    copy_example(project)
    container = ["docker", "run", "--rm", "-u", "0", "-e", "HOME=/root", "-w", "/app"]
    try:
        return timed([*container, *options, "-v", f"{project}:/app", image, *shell("npm install")])
    finally:
        shutil.rmtree(project)


def start_container(image: str, network: str) -> float:
    """Seconds of a container that does nothing."""
    began = time.perf_counter()
    command = ["docker", "run", "--rm", "--network", network, image, "true"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def through_service(url: str, *, cache: str = "on", changed: bool = False) -> Times:
    """The example as a build job; `changed`: with a source that no job had before."""
    files = {str(path.relative_to(demo.EXAMPLE)): path.read_text() for path in demo.project_files(demo.EXAMPLE)}
    if changed:
        files["src/unique.ts"] = f"export const unique = '{time.time_ns()}'\n"
    record = submit(url, {"type": "build", "cache": cache, "data": {"projectFiles": files}})
    return Times(record["seconds"], phase_s(record, "installing"), phase_s(record, "building"))


def submit(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a job that succeeded, with the `seconds` from POST until it said so."""
    began = time.perf_counter()
    answer = requests.post(f"{url}/api/jobs", json=body, timeout=10)
    answer.raise_for_status()
    job_url = f"{url}/api/jobs/{answer.json()['jobId']}"
    while (record := requests.get(job_url, timeout=10).json())["status"] not in {"completed", "failed"}:
        time.sleep(POLL_S)
    if record["conclusion"] != "success":
        raise SetupError(f"the job failed: {record['message']}")
    return {**record, "seconds": time.perf_counter() - began}
