"""What the engine's machine offers to all sandboxes together: where workspaces live, and the group that caps them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from executor.sandbox import Engine, translated
from executor.spec import House
from jobs import Limits

log = logging.getLogger(__name__)

#: Of the machine's memory, what all slots' memory and workspaces may come to, for workspaces to be held in memory.
MEMORY_SHARE = 0.75
#: What all sandboxes together may take of it, so that the service and its Redis keep the rest.
PARENT_SHARE = 0.85
CGROUPS = Path("/sys/fs/cgroup")
GROUP = "chef-workers"
#: By the engine's driver of control groups. A path must be absolute, or it would lie below the engine's own group.
PARENTS = {"cgroupfs": f"/{GROUP}", "systemd": "chefworkers.slice"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the settings say: the runtime of the jobs' code, where workspaces live, how many jobs run at a time."""

    runtime: str = ""
    workspace: Literal["auto", "memory", "disk"] = "auto"
    slots: int = 5


def settle(engine: Engine, wish: Wish, limits: Limits) -> House:
    """Decide for an engine, and cap the common group where that is ours to do. Raises EngineFault."""
    with translated("ask for its machine"):
        info: dict[str, Any] = engine.api.info()
    parent = PARENTS.get(info.get("CgroupDriver", ""), "")
    total_bytes = int(info.get("MemTotal", 0))
    if parent.startswith("/"):
        _cap(parent, int(total_bytes * PARENT_SHARE))
    needed = wish.slots * (limits.memory_bytes + limits.disk_bytes)
    fits = needed <= total_bytes * MEMORY_SHARE
    return House(wish.runtime, parent, wish.workspace == "memory" or (wish.workspace == "auto" and fits))


def _cap(parent: str, memory_bytes: int) -> None:
    """Bound the memory and weigh the processor time of all sandboxes together, as far as this process may.

    An engine elsewhere has groups of its own; docs/security.md says what to type there.
    """
    if (CGROUPS / "cgroup.controllers").exists():
        files = {"memory.max": memory_bytes, "cpu.weight": 25}
        places = {name: CGROUPS / parent[1:] / name for name in files}
    else:
        files = {"memory.limit_in_bytes": memory_bytes, "cpu.shares": 256}
        places = {name: CGROUPS / name.partition(".")[0] / parent[1:] / name for name in files}
    for name, place in places.items():
        try:
            place.parent.mkdir(exist_ok=True)
            place.write_text(str(files[name]))
        except OSError as error:
            log.info("the sandboxes have no %s in common: %s", name, error)
