"""Fifty builds that find their dependencies, as fast as they come: beside the bare host, and what they leave behind.

The host builds in as many processes as the service has slots, each in its own copy of examples/react-app.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
import requests

import demo
from bench import measure
from bench.build import Host, up
from errors import SetupError
from stack import Stack

JOBS = 50
SLOTS = (2, 4)
LONGEST_S = 600


@dataclass(frozen=True)
class Footprint:
    """What a service and the engine hold: MB of memory, open files, containers, workspaces, MB below DATA_DIR."""

    memory: float
    files: int
    containers: int
    workspaces: int
    disk: float


def run(rounds: int) -> str:
    """Both tables; one round is enough for 50 builds."""
    rates, held = [], []
    with tempfile.TemporaryDirectory(prefix="cw-bench-") as name:
        for slots in SLOTS:
            bare = host_rate(Path(name) / f"host-{slots}", slots)
            measure.say(f"host, {slots} at once: {bare:.1f} a minute")
            # As many processors as the host has, or the share of one would decide.
            chosen = {"MAX_CONCURRENT_WORKERS": str(slots), "WORKER_CPU_LIMIT": str(os.cpu_count())}
            with up(Path(name) / f"service-{slots}", chosen) as stack:
                ours, before, after = service_rate(stack)
            measure.say(f"service, {slots} at once: {ours:.1f} a minute")
            rates.append([f"{slots}", f"{bare:.1f}", f"{ours:.1f}", f"{ours / bare:.2f}"])
            held += [[f"{slots} slots, {when}", *told(found)] for when, found in (("before", before), ("after", after))]
    speed = measure.table("at once | host, builds/min | service, builds/min | service / host", rates)
    left = "what is held | memory MB | open files | containers | workspaces | DATA_DIR MB"
    return f"{speed}\n\n{measure.table(left, held)}"


def host_rate(folder: Path, slots: int) -> float:
    """Builds a minute on the bare host, so many at a time."""
    hosts = []
    for number in range(slots):
        hosts.append(Host(folder / str(number)))
        hosts[-1].install_and_build(empty_cache=False)
    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(lambda at: hosts[at].build_again(JOBS // slots), range(slots)))
    rate = JOBS // slots * slots / (time.perf_counter() - began) * 60
    shutil.rmtree(folder)
    return rate


def service_rate(stack: Stack) -> tuple[float, Footprint, Footprint]:
    """Builds a minute through the service, from the first POST to the last end; what is held before and after."""
    build(stack.url, 4)  # fills what the others find, and warms the processes
    before = footprint(stack)
    seconds = build(stack.url, JOBS)
    settle(stack)
    return JOBS / seconds * 60, before, footprint(stack)


def build(url: str, jobs: int) -> float:
    """Seconds of so many builds, each with a source of its own, sent at once."""
    files = {str(path.relative_to(demo.EXAMPLE)): path.read_text() for path in demo.project_files(demo.EXAMPLE)}
    bodies = [{**files, "src/unique.ts": f"export const unique = '{time.time_ns()}-{at}'\n"} for at in range(jobs)]
    began = time.perf_counter()
    made = [
        requests.post(f"{url}/api/jobs", json={"type": "build", "data": {"projectFiles": body}}, timeout=10).json()
        for body in bodies
    ]
    for job in made:
        ended = requests.get(f"{url}/api/jobs/{job['jobId']}?wait=60", timeout=70).json()
        while ended["status"] not in {"completed", "failed"} and time.perf_counter() - began < LONGEST_S:
            ended = requests.get(f"{url}/api/jobs/{job['jobId']}?wait=60", timeout=70).json()
        if ended["conclusion"] != "success":
            raise SetupError(f"a build failed: {ended['message']}")
    return time.perf_counter() - began


def settle(stack: Stack) -> None:
    """Wait until the last site is removed and the next one waits."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and footprint(stack).workspaces > int(
        stack.environment["MAX_CONCURRENT_WORKERS"]
    ):
        time.sleep(0.1)


def footprint(stack: Stack) -> Footprint:
    """What there is now."""
    sessions = {process.pid for process in stack.processes.values()}
    pids = [pid for pid in processes() if session(pid) in sessions or name(pid) in {"dockerd", "containerd"}]
    client = docker.from_env()
    volumes = client.api.volumes(filters={"name": "cw-parked-"})["Volumes"] or []
    data = Path(stack.environment["DATA_DIR"])
    return Footprint(
        memory=sum(map(resident_mb, pids)),
        files=sum(map(open_files, pids)),
        containers=len(client.api.containers(all=True)),
        workspaces=len(volumes),
        disk=sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) / 1e6,
    )


def told(found: Footprint) -> list[str]:
    """As cells of a table."""
    return [f"{found.memory:.0f}", f"{found.files}", f"{found.containers}", f"{found.workspaces}", f"{found.disk:.1f}"]


def processes() -> Iterator[int]:
    """All processes of this machine."""
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def session(pid: int) -> int:
    """The session that a process belongs to; 0 if it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def name(pid: int) -> str:
    """What a process is called; "" if it is gone."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def resident_mb(pid: int) -> float:
    """Its memory."""
    try:
        pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    """How many it has open."""
    try:
        return sum(1 for _ in (Path("/proc") / str(pid) / "fd").iterdir())
    except OSError:
        return 0
