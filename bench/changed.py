"""One dependency changed: what an install loads and how long a build takes, with packages of earlier ones and without.

The registry is as near as it is, and then behind a slow link: what comes to the service's proxy is held back to RATE by
`tc`, at the host's end of its network device. Where that cannot be done, those rows are left out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker

import config
import demo
from bench import measure, nodejs
from bench.build import phase_s, submit, up
from executor.spec import LABEL
from stack import Stack

RATE = "20mbit"
PACKAGE, VERSIONS = "ms", ("2.1.2", "2.1.1", "2.1.0", "2.0.0", "1.0.0")


@dataclass(frozen=True)
class Build:
    """Seconds in all and of the install, and what that loaded (MB)."""

    total: float
    install: float
    loaded: float


def run(rounds: int) -> str:
    """The table."""
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="cw-bench-")))
        with_lockfile = example(folder / "example")
        without = {name: text for name, text in with_lockfile.items() if name != "package-lock.json"}
        stack = parts.enter_context(up(folder / "service", {"MAX_CONCURRENT_WORKERS": "1"}))
        versions = itertools.cycle(VERSIONS)
        contenders = {
            f"{name}, {how}": partial(build, stack.url, files, versions, cache)
            for name, files in (("with a lockfile", with_lockfile), ("without one", without))
            for how, cache in (("packages of earlier jobs", "on"), ("nothing of earlier jobs", "off"))
        }
        build(stack.url, with_lockfile, versions, "on")
        measured = measure.in_turns(rounds, contenders)
        with slowed(stack) as is_slow:
            far = measure.in_turns(rounds, contenders) if is_slow else {}
    rows = [*rows_of("", measured), *rows_of(f", over {RATE}/s", far)]
    return measure.table("one dependency changed | total s | install s | loaded MB", rows)


def rows_of(where: str, measured: Mapping[str, list[Build]]) -> Iterator[list[str]]:
    for name, turns in measured.items():
        seconds = (measure.spread((getattr(turn, part) for turn in turns), 2) for part in ("total", "install"))
        yield [f"{name}{where}", *seconds, f"{statistics.median(turn.loaded for turn in turns):.1f}"]


def example(folder: Path) -> dict[str, str]:
    """The files of examples/react-app, with a lockfile that has addresses, as npm writes it unless told otherwise."""
    folder.mkdir()
    files = {str(path.relative_to(demo.EXAMPLE)): path.read_text() for path in demo.project_files(demo.EXAMPLE)}
    (folder / "package.json").write_text(files["package.json"])
    environment = {**nodejs.environment(folder.parent), "npm_config_omit_lockfile_registry_resolved": "false"}
    measure.quietly(["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"], cwd=folder, env=environment)
    return {**files, "package-lock.json": (folder / "package-lock.json").read_text()}


def build(url: str, files: Mapping[str, str], versions: Iterator[str], cache: str) -> Build:
    """A build of the example with another version of one package; no job before had the same dependencies."""
    manifest = json.loads(files["package.json"])
    manifest["dependencies"][PACKAGE] = next(versions)
    manifest["config"] = {"unique": time.time_ns()}
    changed = {**files, "package.json": json.dumps(manifest)}
    seconds, record = submit(url, {"type": "build", "cache": cache, "data": {"projectFiles": changed}})
    loaded = record["result"]["usage"]["networkReceivedBytes"] / 1e6
    return Build(seconds, phase_s(record, "installing"), loaded)


@contextlib.contextmanager
def slowed(stack: Stack) -> Iterator[bool]:
    """Slow down what comes to the service's proxy; False if that cannot be done here."""
    device = proxy_device(config.load(stack.environment).service) if os.geteuid() == 0 else ""
    queue = ["tc", "qdisc", "{}", "dev", device, "root", "tbf", "rate", RATE, "burst", "64kb", "latency", "400ms"]
    try:
        done = subprocess.run([word.format("add") for word in queue], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    try:
        yield bool(device) and done
    finally:
        if done:
            subprocess.run(["tc", "qdisc", "del", "dev", device, "root"], check=False, capture_output=True)


def proxy_device(service: str) -> str:
    """The host's end of the network device of a service's proxy."""
    with contextlib.closing(docker.from_env()) as engine:
        labels = [f"{LABEL}-egress=1", f"{LABEL}.service={service}"]
        (proxy,) = engine.containers.list(filters={"label": labels})
        inside = ["nsenter", "--target", str(proxy.attrs["State"]["Pid"]), "--net", "ip", "-o", "link", "show", "eth0"]
    peer = re.search(r"@if(\d+)", subprocess.run(inside, check=True, capture_output=True, text=True).stdout)
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^{peer[1]}: ([\w.-]+)@", links, re.MULTILINE) if peer else None
    return found[1] if found else ""
