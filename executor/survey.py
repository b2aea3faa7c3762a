"""What a Docker Engine and its machine lack for sandboxes that can be trusted: one check a function, each with its fix.

Pure but for taking(), which asks. Versions and holes are those of docs/security.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from executor import house
from executor.house import Wish
from executor.images import SOURCES, Images
from executor.sandbox import Engine, translated
from jobs import Limits

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Remark:
    """What a check came to: a sentence and, unless all is well, what to do."""

    state: State
    sentence: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the engine says of itself. `missing` are job images that are not there, `capped` as house.capped()."""

    info: dict[str, Any]
    versions: dict[str, str]
    wish: Wish = field(default_factory=Wish)
    limits: Limits | None = None
    missing: tuple[str, ...] = ()
    capped: bool = True


def taking(engine: Engine, images: Images, wish: Wish, limits: Limits) -> Survey:
    """Ask the engine. Raises EngineFault."""
    with translated("ask what it is"):
        info, version = engine.api.info(), engine.api.version()
        missing = tuple(name for name in SOURCES if not images.is_there(engine.client, name))
    parts = version.get("Components") or [{"Name": "Engine", "Version": version.get("Version", "")}]
    # A distribution's own number, which tells its fixes, is where others have a commit.
    versions = {part["Name"]: (part.get("Details") or {}).get("GitCommit", "") for part in parts}
    versions = {part["Name"]: _fuller(part["Version"], versions[part["Name"]]) for part in parts}
    return Survey(info, versions, wish, limits, missing, house.capped(house.parent(info)))


def remarks(survey: Survey) -> Iterator[Remark]:
    """Every check."""
    for check in CHECKS:
        yield check(survey)


def number(version: str) -> tuple[int, ...]:
    """The three numbers that a version begins with; () if it is none."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _fuller(version: str, commit: str) -> str:
    return commit if number(commit)[:2] == number(version)[:2] != () else version


def _engine(survey: Survey) -> Remark:
    version = survey.versions.get("Engine", "")
    if number(version) < (20, 10):
        return Remark(
            "fail", f"Docker Engine {version or 'of an unknown version'} is too old.", "Install 20.10 or newer."
        )
    if number(version) < (25,):
        remark = f"Docker Engine {version}: its own system call filter lets io_uring and VSOCK through; ours does not."
        return Remark("ok", remark)
    return Remark("ok", f"Docker Engine {version}.")


def _runc(survey: Survey) -> Remark:
    version = survey.versions.get("runc", "")
    known = number(version)
    if not known:
        return Remark("warn", "The version of runc is not known.", "Compare `runc --version` with docs/security.md.")
    if known < (1, 1, 12) and not _is_mended(version):
        return Remark("fail", f"runc {version} lets containers out (CVE-2024-21626).", "Install runc 1.1.12 or newer.")
    if known < (1, 2, 8) or (1, 3, 0) <= known < (1, 3, 3):
        holes = (
            "CVE-2025-31133, -52565 and -52881, which need an image or mounts of the attacker's making; jobs have none"
        )
        return Remark("warn", f"runc {version} has {holes}.", "Install runc 1.2.8, 1.3.3 or newer when you can.")
    return Remark("ok", f"runc {version}.")


def _is_mended(version: str) -> bool:
    """True for a distribution's package that has the fix for CVE-2024-21626: Debian's from deb12u1 and deb11u3 on."""
    found = re.search(r"deb(\d+)u(\d+)", version)
    return bool(found and (int(found[1]), int(found[2])) >= {"11": (11, 3), "12": (12, 1)}.get(found[1], (0, 0)))


def _containerd(survey: Survey) -> Remark:
    version = survey.versions.get("containerd", "")
    known = number(version)
    if known and (known < (1, 3, 9) or (1, 4, 0) <= known < (1, 4, 3)):
        hole = "CVE-2020-15257, which needs the host's network; jobs have none"
        return Remark("warn", f"containerd {version} has {hole}.", "Install containerd 1.4.3 or newer.")
    return Remark("ok", f"containerd {version or 'is not told apart'}.")


def _users(survey: Survey) -> Remark:
    options = " ".join(survey.info.get("SecurityOptions") or ())
    for name in ("rootless", "userns"):
        if f"name={name}" in options:
            return Remark("ok", f"The engine is {name}: its root is not this machine's.")
    return Remark(
        "warn",
        "The engine's root is this machine's: whoever breaks out of a container, or speaks to its socket, is root.",
        'Run a rootless engine and set DOCKER_HOST, or "userns-remap": "default" in daemon.json.',
    )


def _limits(survey: Survey) -> Remark:
    needed = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "processor time"}
    lacking = [words for name, words in needed.items() if not survey.info.get(name, True)]
    group = f"control groups version {survey.info.get('CgroupVersion', '1')}"
    if lacking:
        fix = "Boot with these controllers on (cgroup_enable=memory); a rootless engine needs systemd's delegation."
        return Remark("fail", f"The engine cannot limit {', '.join(lacking)} ({group}).", fix)
    if not survey.info.get("SwapLimit", True):
        return Remark("warn", f"The engine cannot limit swap ({group}).", "Boot with swapaccount=1, or without swap.")
    return Remark("ok", f"Memory, swap, processes and processor time are limited ({group}).")


def _together(survey: Survey) -> Remark:
    if survey.capped:
        return Remark("ok", "All sandboxes together have a bound of their own.")
    return Remark(
        "warn",
        "All sandboxes together have no bound: many at their limits can take all of the machine's memory.",
        "Let the worker write control groups, or: systemctl set-property chefworkers.slice MemoryMax=85% CPUWeight=25",
    )


def _filter(survey: Survey) -> Remark:
    if any("name=seccomp" in option for option in survey.info.get("SecurityOptions") or ()):
        return Remark("ok", "System calls are filtered.")
    return Remark("fail", "The engine cannot filter system calls.", "Run a kernel and an engine with seccomp.")


def _runtime(survey: Survey) -> Remark:
    wanted, known = survey.wish.runtime, survey.info.get("Runtimes") or {}
    if wanted and wanted not in known:
        fix = f"Install it and name it in daemon.json; known are {', '.join(sorted(known))}."
        return Remark("fail", f"SANDBOX_RUNTIME asks for {wanted}, which the engine does not know.", fix)
    used = wanted or survey.info.get("DefaultRuntime", "runc")
    if wanted.startswith("runsc") and survey.limits and survey.limits.pids < 1024:
        return Remark("warn", f"{wanted} counts its own threads.", "Set WORKER_PIDS_LIMIT=1024.")
    return Remark("ok", f"Jobs run in {used}.")


def _restart(survey: Survey) -> Remark:
    if survey.info.get("LiveRestoreEnabled"):
        return Remark("ok", "Containers outlive a restart of the engine.")
    fix = 'Set "live-restore": true in daemon.json, or do not mind.'
    return Remark("warn", "A restart of the engine ends running jobs; they run again.", fix)


def _networks(survey: Survey) -> Remark:
    if "bridge" not in ((survey.info.get("Plugins") or {}).get("Network") or ("bridge",)):
        return Remark("fail", "The engine has no bridge network, so no install reaches its registry.", "Enable it.")
    if not survey.info.get("BridgeNfIptables", True):
        fix = "modprobe br_netfilter; sysctl net.bridge.bridge-nf-call-iptables=1"
        return Remark("warn", "The proxies of several workers can reach each other; jobs have no network at all.", fix)
    return Remark("ok", "Installs reach out through their proxy alone; nothing on this host needs a firewall rule.")


def _workspaces(survey: Survey) -> Remark:
    if not survey.limits:
        return Remark("ok", "Workspaces are as the settings say.")
    place = house.is_in_memory(survey.info, survey.wish, survey.limits)
    if place:
        return Remark("ok", "Workspaces are in memory: the kernel bounds their bytes and files.")
    fix = "Lower MAX_CONCURRENT_WORKERS, WORKER_MEMORY_LIMIT or WORKER_DISK_LIMIT, or add memory."
    return Remark("warn", "Workspaces are folders: a job is ended soon after it passes its limit, not at it.", fix)


def _images(survey: Survey) -> Remark:
    if survey.missing:
        names = ", ".join(survey.missing)
        return Remark("warn", f"Images are not there yet: {names}.", "python cli.py images (two minutes)")
    return Remark("ok", "All images are there.")


CHECKS: tuple[Callable[[Survey], Remark], ...] = (
    _engine, _runc, _containerd, _users, _limits, _together, _filter, _runtime, _restart, _networks, _workspaces,
    _images,
)  # fmt: skip
