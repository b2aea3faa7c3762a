"""What the engine's machine offers to all sandboxes together: where workspaces live, and the group that caps them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from executor.budget import Share
from executor.sandbox import Engine, translated
from executor.spec import House
from jobs import Limits

log = logging.getLogger(__name__)

#: Of the machine's memory, what all slots' memory and workspaces may come to, for workspaces to be held in memory.
MEMORY_SHARE = 0.75
#: What all sandboxes together may take of it, so that the service and its Redis keep the rest.
PARENT_SHARE = 0.85
#: In the two versions of control groups.
MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")
SHARE_FILES = ("cpu.shares", "cpu.weight")
NO_BOUND = 1 << 60
CGROUPS = Path("/sys/fs/cgroup")
GROUP = "chef-workers"
#: By the engine's driver of control groups. A path must be absolute, or it would lie below the engine's own group.
PARENTS = {"cgroupfs": f"/{GROUP}", "systemd": "chefworkers.slice"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the settings say: the runtime of the jobs' code, where workspaces live, how many jobs run at a time, the
    images of which a sandbox waits for each of these, what all of them may use together (0: what the machine has), and
    how many failed jobs' sandboxes are kept for how long.
    """

    runtime: str = ""
    workspace: Literal["auto", "memory", "disk"] = "auto"
    slots: int = 5
    parked: tuple[str, ...] = ()
    memory_budget: int = 0
    cpu_budget: float = 0.0
    kept: int = 0
    kept_s: int = 0


def settle(engine: Engine, wish: Wish, limits: Limits) -> House:
    """Decide for an engine, and cap the common group where that is ours to do. Raises EngineFault."""
    with translated("ask for its machine"):
        info: dict[str, Any] = engine.api.info()
    group = parent(info)
    if group.startswith("/"):
        _cap(group, int(info.get("MemTotal", 0) * PARENT_SHARE))
    return House(wish.runtime, group, is_in_memory(info, wish, limits))


def whole(engine: Engine, wish: Wish, limits: Limits) -> Share:
    """What the jobs of one worker may use together; `limits` are a usual job's. Raises EngineFault.

    Processors may be shared by as many usual jobs as there are slots; memory cannot be had twice.
    """
    with translated("ask for its machine"):
        info: dict[str, Any] = engine.api.info()
    memory = wish.memory_budget or int(info.get("MemTotal", 0) * MEMORY_SHARE)
    return Share(memory, wish.cpu_budget or max(float(info.get("NCPU", 1)), wish.slots * limits.cpus))


def parent(info: dict[str, Any]) -> str:
    """The group of all sandboxes together; "" if the engine has none that we know to name."""
    return PARENTS.get(info.get("CgroupDriver", ""), "")


def is_in_memory(info: dict[str, Any], wish: Wish, limits: Limits) -> bool:
    """Whether workspaces are held in memory."""
    needed = wish.slots * (limits.memory_bytes + limits.disk_bytes)
    fits = needed <= int(info.get("MemTotal", 0)) * MEMORY_SHARE
    return wish.workspace == "memory" or (wish.workspace == "auto" and fits)


def capped(group: str) -> bool:
    """True if all sandboxes together have a bound on their memory, as far as can be seen from here."""
    try:
        return int(_place(group, *MEMORY_FILES).read_text()) < NO_BOUND
    except (OSError, ValueError):  # a group elsewhere, none yet, or "max"
        return False


def _place(group: str, name_in_1: str, name_in_2: str) -> Path:
    if (CGROUPS / "cgroup.controllers").exists():
        return CGROUPS / group.lstrip("/") / name_in_2
    return CGROUPS / name_in_1.partition(".")[0] / group.lstrip("/") / name_in_1


def _cap(group: str, memory_bytes: int) -> None:
    """Bound the memory and weigh the processor time of all sandboxes together, as far as this process may.

    An engine elsewhere has groups of its own; docs/security.md says what to type there.
    """
    is_2 = (CGROUPS / "cgroup.controllers").exists()
    for names, value in ((MEMORY_FILES, memory_bytes), (SHARE_FILES, 25 if is_2 else 256)):
        place = _place(group, *names)
        try:
            place.parent.mkdir(exist_ok=True)
            place.write_text(str(value))
        except OSError as error:
            log.info("the sandboxes have no %s in common: %s", place.name, error)
