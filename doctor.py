"""What this host lacks for the service, and how to mend it: `make doctor`. One check a function."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import machine
from config import Settings
from errors import ChefError, EngineFault, SetupError, StoreUnavailable
from executor import EgressRules, Executor, Remark, Wish
from executor.images import Images
from jobs import Artifact, Job, JobType, OutputChunk, Phase, Request, Status, new_id
from stack import unique_prefix
from store import Store

MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
SKEW_S = 2.0
CONNECT_S = 3.0
REDIS_PORT = 6379
Checks = Iterator[Remark]


def report(settings: Settings, say: Callable[[str], None]) -> int:
    """Say every remark with its fix; 1 if one is a failure."""
    remarks = []
    for part, check in PARTS.items():
        for remark in check(settings):
            remarks.append(remark)
            say(f"{MARKS[remark.state]} {part}: {remark.sentence}")
            if remark.state != "ok" and remark.fix:
                say(f"     fix: {remark.fix}")
    failed, warned = (sum(remark.state == state for remark in remarks) for state in ("fail", "warn"))
    say(f"\n{len(remarks)} checks, {warned} warnings, {failed} failures")
    return 1 if failed else 0


def redis(settings: Settings) -> Checks:
    """Whether Redis answers, can keep jobs, agrees about the time, and is not open to others."""
    given = settings.configured_redis_url
    url = given or f"redis://127.0.0.1:{REDIS_PORT}/0"
    if not machine.redis_answers(url):
        yield _no_redis(given)
        return
    with contextlib.closing(Store(url)) as store:
        try:
            store.check_suitable()
            yield Remark("ok", "Redis answers, and keeps what it accepts.")
            yield clocks(time.time() - store.now_s())
        except StoreUnavailable as error:
            yield Remark("fail", f"{error}.", "Look at its log.")
        except ChefError as error:
            yield Remark("fail", f"{error}.", "Set what is named in redis.conf, or give another server by REDIS_URL.")
    yield redis_place(url)


def _no_redis(given: str | None) -> Remark:
    if given:
        return Remark("fail", "Redis does not answer at the address in the settings.", "Start it, or unset REDIS_*.")
    try:
        return Remark("ok", f"No Redis runs; make run and make demo start {machine.redis_binary()}.")
    except SetupError as error:
        return Remark("fail", str(error), "apt-get install redis-server")


def clocks(skew_s: float) -> Remark:
    """How far this machine's clock is from Redis'."""
    if abs(skew_s) <= SKEW_S:
        return Remark("ok", "This machine's clock and Redis' agree.")
    sentence = f"This machine's clock is {skew_s:+.1f} s off Redis': receivers may refuse webhooks as too old."
    return Remark("warn", sentence, "Run a time service on both, such as chrony.")


def redis_place(url: str) -> Remark:
    """Whether others could reach a Redis; who writes there controls everything."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or _is_loopback(parts.hostname or "localhost"):
        return Remark("ok", "Redis is reached without a network.")
    if not parts.password:
        return Remark(
            "fail", "Redis is reached over a network, without a password.", "Set requirepass and REDIS_PASSWORD."
        )
    if parts.scheme != "rediss":
        return Remark(
            "warn", "Redis is reached over a network in the clear.", "Use rediss://, or a network of its own."
        )
    return Remark("ok", "Redis is reached over TLS, with a password.")


def docker(settings: Settings) -> Checks:
    """The engine, its versions and its machine; at last a sandbox with the whole profile."""
    address = settings.docker_host or machine.DEFAULT_ENGINE
    yield engine_address(address)
    if not machine.engine_answers(settings.docker_host):
        yield Remark("fail", f"No Docker Engine answers at {address}.", "systemctl start docker, or set DOCKER_HOST.")
        return
    with contextlib.closing(_executor(settings)) as executor:
        try:
            remarks = executor.remarks(settings.limits)
            yield from remarks
            if not any("not there yet" in remark.sentence for remark in remarks):
                yield trial(executor, settings)
        except EngineFault as error:
            yield Remark("fail", f"{error}.", "Look at the log of the Docker Engine.")


def engine_address(address: str) -> Remark:
    """Who else can speak to the engine; whoever can is root on its machine."""
    scheme, _, path = address.partition("://")
    if scheme in ("tcp", "http"):
        fix = "Use ssh://, a Unix socket, or TLS with client certificates."
        return Remark("fail", "DOCKER_HOST is in the clear: whoever reaches that port is root there.", fix)
    if scheme == "unix" and Path(path).exists() and Path(path).stat().st_mode & stat.S_IWOTH:
        fix = f"chmod 660 {path}; let the worker's user be in its group"
        return Remark("fail", f"Everybody on this machine may use {path}, and so be root.", fix)
    return Remark("ok", f"The engine at {address} is not open to everybody.")


def _executor(settings: Settings) -> Executor:
    return Executor(
        settings.docker_host,
        Images(settings.data_dir / "images"),
        service=unique_prefix(),
        rules=EgressRules(*settings.egress),
        wish=Wish(settings.sandbox_runtime, settings.worker_workspace, settings.max_concurrent_workers),
    )


class Deaf:
    """Watches a trial, and keeps nothing of it."""

    def output(self, chunk: OutputChunk) -> None:
        """Take the next part of the log."""

    def progress(self, percent: int, phase: Phase) -> None:
        """Hear that a phase begins."""

    def stopped(self) -> bool:
        """Never."""
        return False

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """A trial makes no files."""
        raise NotImplementedError


def trial(executor: Executor, settings: Settings) -> Remark:
    """Run a job that does nothing with the whole profile. Raises EngineFault."""
    job = Job(new_id(), JobType.BUILD, Status.ACTIVE, priority=5, created_ms=0, fence=1)
    request = Request(JobType.BUILD, {"package.json": "{}"}, command="true")
    began = time.monotonic()
    result = executor.run(job, request, settings.limits, slot=0, watch=Deaf())
    if result.reason:
        return Remark(
            "fail", f"A job that does nothing ends as {result.reason}: {result.message}", "See docs/security.md."
        )
    return Remark("ok", f"A job with the whole profile runs ({time.monotonic() - began:.1f} s).")


def machine_room(settings: Settings) -> Checks:
    """What disk and memory are left."""
    folder = next(
        path for path in (settings.data_dir.absolute(), *settings.data_dir.absolute().parents) if path.exists()
    )
    yield disk_room(shutil.disk_usage(folder).free, settings.min_free_disk)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield memory_room(pages, settings.max_concurrent_workers * settings.limits.memory_bytes)


def disk_room(free: int, least: int) -> Remark:
    """Room on DATA_DIR's disk, in bytes."""
    left, fix = f"The disk of DATA_DIR has {free >> 20:,} MB left", "Free some, or lower KEEP_DAYS and KEEP_BYTES."
    if free < least:
        return Remark("fail", f"{left}, below the {least >> 20:,} MB of MIN_FREE_DISK: new jobs are refused.", fix)
    if free < 2 * least + (1 << 30):
        return Remark("warn", f"{left}; below {least >> 20:,} MB new jobs are refused.", fix)
    return Remark("ok", f"{left}.")


def memory_room(total: int, wanted: int) -> Remark:
    """The machine's memory, and what all slots together may take, in bytes."""
    sentence = f"All slots together may take {wanted >> 20:,} MB of {total >> 20:,} MB of memory"
    if wanted > total * 0.75:
        return Remark("warn", f"{sentence}.", "Lower MAX_CONCURRENT_WORKERS or WORKER_MEMORY_LIMIT.")
    return Remark("ok", f"{sentence}.")


def network(settings: Settings) -> Checks:
    """Where the API listens, and whether webhooks find their receivers."""
    if _is_loopback(settings.host):
        yield Remark("ok", "The API listens on loopback alone.")
    else:
        sentence = f"The API listens on {settings.host}, in the clear."
        yield Remark("warn", sentence, "Put a proxy with TLS in front, and let nobody else reach the port.")
    for name, endpoint in settings.endpoints.items():
        yield receiver(name, endpoint.url)


def receiver(name: str, url: str) -> Remark:
    """Whether a receiver takes connections."""
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(place, CONNECT_S).close()
    except OSError as error:
        fix = "Check its address and this machine's name server and firewall; webhooks wait for three days."
        return Remark("warn", f"The receiver {name} cannot be reached ({error}).", fix)
    return Remark("ok", f"The receiver {name} takes connections.")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


#: In the order in which they are shown.
PARTS: dict[str, Callable[[Settings], Checks]] = {
    "redis": redis, "docker": docker, "machine": machine_room, "network": network
}  # fmt: skip
