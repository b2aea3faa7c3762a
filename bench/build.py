"""How long examples/react-app takes to install and build: the bare host, plain `docker run`, and the whole service.

The host runs the same Node as the job image (from the wheel in bench/requirements.txt), so the floor is fair. A second
table shows what is left when the job itself does nothing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from executor import cellar
from executor.images import NODE, Images
from stack import Stack, running, unique_prefix

#: Rounds of the cheap measurements for each round of builds.
CHEAP = 5
REST_S = 1.0
#: A registry that stops answering must not hold everything up.
LONGEST_S = 90
#: What separates the install from the build in the output of a plain shell.
MARK = "installed"
TEXT = {"Accept": "text/plain"}


@dataclass(frozen=True)
class Times:
    """Seconds of one build: from the outside, and of its two commands."""

    total: float
    install: float
    build: float


def run(rounds: int) -> str:
    """Both tables."""
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="cw-bench-")))
        url = parts.enter_context(service(folder / "usual"))
        unparked = parts.enter_context(service(folder / "unparked", PARKED_SANDBOXES="none"))
        two = parts.enter_context(service(folder / "two", WORKER_CPU_LIMIT="2"))
        image = Images(folder / "images").ensure(docker.from_env(), NODE)
        host = Host(folder)
        host.install_and_build(empty_cache=True)
        one = ["taskset", "--cpu-list", "0"]
        builds: dict[str, Callable[[], Times]] = {
            "bare host, npm cache warm (the floor)": partial(host.install_and_build, empty_cache=False),
            "bare host, npm cache empty": partial(host.install_and_build, empty_cache=True),
            "docker run": partial(docker_run, image, folder, []),
            "docker run, npm cache in a volume": partial(
                docker_run, image, folder, ["-v", f"{folder / 'npm'}:/root/.npm"]
            ),
            "docker run, with the limits of a job": partial(docker_run, image, folder, limits()),
            "the service, cold (its npm cache is always empty)": partial(through_service, url, cache="off"),
            "bare host, build alone": host.build,
            "bare host, build alone on one processor": partial(host.build, one),
            "the service, warm: dependencies shared, other sources": partial(through_service, url, changed=True),
            "the same with two processors": partial(through_service, two, changed=True),
            "the service, hot: the same again": partial(through_service, url),
        }
        for at, changed in ((url, True), (url, False), (two, True)):  # fill what the last three find
            through_service(at, changed=changed)
        whole = builds_table(measure.in_turns(rounds, builds))
        cheap: dict[str, Callable[[], float]] = {
            "docker run: until its command runs": partial(docker_first_command, image),
            "the service: POST until its command runs": partial(first_command, url),
            "the same without parked sandboxes": partial(first_command, unparked),
            "docker run --rm true, no network": partial(start_container, image, "none"),
            "docker run --rm true, bridge": partial(start_container, image, "bridge"),
            "the service, a job that does nothing: POST to completed": partial(nothing, url),
            "the same without parked sandboxes ": partial(nothing, unparked),
            "the service, hot, a job that does nothing: POST to completed": partial(again, url),
            "the service: GET of its health, which is a request alone": partial(request, url),
        }
        again(url)
        alone = measure.in_turns(
            rounds * CHEAP, {name: partial(at_rest, contender) for name, contender in cheap.items()}
        )
        rows = [[name, measure.spread(seconds * 1000 for seconds in turns)] for name, turns in alone.items()]
        return f"{whole}\n\n{measure.table('what it takes to do nothing | ms', rows)}"


@contextlib.contextmanager
def service(folder: Path, **chosen: str) -> Iterator[str]:
    """The whole service, with one slot unless `chosen` says otherwise; its URL."""
    with up(folder, {"MAX_CONCURRENT_WORKERS": "1", **chosen}) as stack:
        yield stack.url


@contextlib.contextmanager
def up(folder: Path, chosen: Mapping[str, str]) -> Iterator[Stack]:
    """The whole service with these settings."""
    folder.mkdir()
    with private_server(folder) as server:
        # A prefix of its own: services of one name on one engine would sweep up each other's containers.
        ours = {"DATA_DIR": str(folder), "REDIS_URL": server.url(0), "REDIS_PREFIX": unique_prefix()}
        settings = config.load({**ours, **chosen})
        with running(settings, measure.say, port=0, log=folder / "log") as stack:
            yield stack
        kept = {"label": f"{cellar.LABEL}.service={settings.service}"}
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


def at_rest(contender: Callable[[], float]) -> float:
    """One measurement, after what the one before left to be removed and made is removed and made."""
    time.sleep(REST_S)
    return contender()


def phase_s(record: Mapping[str, Any], name: str) -> float:
    """Seconds of one phase of a finished job."""
    return float(sum(phase["durationMs"] for phase in record["result"]["phases"] if phase["name"] == name)) / 1000


class Host:
    """The example on the bare host."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
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

    def build(self, within: Sequence[str] = ()) -> Times:
        """The build script, with node_modules there, started by the command `within`."""
        shutil.rmtree(self._project / "dist", ignore_errors=True)
        return timed([*within, *shell(":")], cwd=self._project, env=self._environment)

    def build_again(self, times: int) -> None:
        """The build script alone, so many times."""
        for _ in range(times):
            measure.quietly(["npm", "run", "build"], cwd=self._project, env=self._environment)


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


def docker_first_command(image: str) -> float:
    """Seconds from calling docker until the container's command runs."""
    began = time.time()
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", image, "date", "+%s.%N"], check=True, capture_output=True
    )
    return float(done.stdout) - began


def through_service(url: str, *, cache: str = "on", changed: bool = False) -> Times:
    """The example as a build job; `changed`: with a source that no job had before."""
    files = {str(path.relative_to(demo.EXAMPLE)): path.read_text() for path in demo.project_files(demo.EXAMPLE)}
    if changed:
        files["src/unique.ts"] = f"export const unique = '{time.time_ns()}'\n"
    seconds, record = submit(url, {"type": "build", "cache": cache, "data": {"projectFiles": files}})
    return Times(seconds, phase_s(record, "installing"), phase_s(record, "building"))


def first_command(url: str) -> float:
    """Seconds from the POST until the job's command runs."""
    began = time.time()
    _, record = submit(url, do_nothing("date +%s.%N", cache="off"))
    log = requests.get(f"{url}/api/jobs/{record['jobId']}/logs?stream=stdout", headers=TEXT, timeout=10).text
    return float(log.split()[-1]) - began


def nothing(url: str) -> float:
    """Seconds of a job that does nothing."""
    return submit(url, do_nothing("true", cache="off"))[0]


def again(url: str) -> float:
    """Seconds of a job that did the same before."""
    return submit(url, do_nothing("true", cache="on"))[0]


def request(url: str) -> float:
    """Seconds of a request that does little."""
    began = time.perf_counter()
    requests.get(f"{url}/livez", timeout=10).raise_for_status()
    return time.perf_counter() - began


def do_nothing(command: str, cache: str) -> dict[str, Any]:
    """A job without anything to install, to do or to collect."""
    files = {"package.json": '{"private": true}', "dist/index.html": ""}
    return {"type": "build", "cache": cache, "data": {"projectFiles": files, "command": command}}


def submit(url: str, body: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds from the POST until its answer says that the job is completed, and the record."""
    began = time.perf_counter()
    answer = requests.post(f"{url}/api/jobs?wait=60", json=body, timeout=70)
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    record: dict[str, Any] = answer.json()
    if record.get("conclusion") != "success":
        raise SetupError(f"the job failed: {record.get('message')}")
    return seconds, record
