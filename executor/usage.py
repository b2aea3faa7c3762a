"""What a run used: samples of its containers' control groups, their peaks and sums, and advice when a limit was near.

The kernel's own counters, read ten times a second where the engine is on this machine; elsewhere what the engine tells
once a second. Nothing comes from inside a container. What a container does after its last sample is not counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor.sandbox import ENGINE_ERRORS, Engine
from jobs import Limits

CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")
SAMPLE_S = 0.1
#: From this share of a limit on, the record says what to do.
NEAR = 0.9


@dataclass(frozen=True, slots=True)
class Sample:
    """One container, since its start: processor time, time held back by its processor limit, and what it holds now.

    `memory_bytes` is what its programs and the kernel hold for them, without file caches and files in memory.
    """

    cpu_s: float = 0.0
    throttled_s: float = 0.0
    memory_bytes: int = 0
    processes: int = 0
    oom_kills: int = 0


Source = Callable[[], Sample | None]


@dataclass
class Usage:
    """Adds up the containers of one run."""

    cpu_s: float = 0.0
    throttled_s: float = 0.0
    memory_peak: int = 0
    processes_peak: int = 0
    oom_kills: int = 0
    _last: Sample = field(default_factory=Sample)
    _source: Source = lambda: None
    _due: float = 0.0

    def begin(self, engine: Engine, container_id: str, pid: int) -> None:
        """A container has started; `pid` is its first process, as the engine says (0: it has ended already)."""
        self.end()
        if pid:
            self._source = control_group(container_id, pid) or _engine_source(engine, container_id)
            self._due = 0.0

    def watch(self) -> None:
        """Take a sample if one is due; cheap enough to be called at every turn of a loop."""
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + SAMPLE_S
        if sample := self._source():
            self._last = sample
            self.memory_peak = max(self.memory_peak, sample.memory_bytes)
            self.processes_peak = max(self.processes_peak, sample.processes)

    def end(self, *, oom_killed: bool = False) -> None:
        """The container has ended, or nobody looks at it any more; `oom_killed` as the engine says."""
        self.cpu_s += self._last.cpu_s
        self.throttled_s += self._last.throttled_s
        self.oom_kills += max(self._last.oom_kills, int(oom_killed))
        self._last, self._source = Sample(), lambda: None

    def to_json(self, limits: Limits, elapsed_s: float, disk: dict[str, Any]) -> dict[str, Any]:
        """The record's `usage`: each figure with its limit beside it. `disk` is the keeper's report, with peaks."""
        self.end()
        body = {
            "wallSeconds": round(elapsed_s, 3), "wallLimitSeconds": limits.total_s,
            "cpuSeconds": round(self.cpu_s, 3), "cpuLimit": limits.cpus, "throttledSeconds": round(self.throttled_s, 3),
            "memoryPeakBytes": self.memory_peak, "memoryLimitBytes": limits.memory_bytes, "oomKills": self.oom_kills,
            "processesPeak": self.processes_peak, "processesLimit": limits.pids,
            "diskPeakBytes": disk.get("bytes", 0), "diskLimitBytes": limits.disk_bytes,
            "diskPeakFiles": disk.get("files", 0), "diskLimitFiles": limits.disk_files,
            "networkReceivedBytes": disk.get("received", 0), "networkSentBytes": disk.get("sent", 0),
        }  # fmt: skip
        return body | ({"advice": advice} if (advice := _advice(body)) else {})


#: (figure, its limit, what it is called, what to raise)
_NEAR_LIMITS = (
    ("memoryPeakBytes", "memoryLimitBytes", "memory", "limits.memoryBytes"),
    ("diskPeakBytes", "diskLimitBytes", "the workspace", "limits.diskBytes"),
    ("diskPeakFiles", "diskLimitFiles", "the number of files in the workspace", "limits.diskBytes"),
    ("processesPeak", "processesLimit", "the number of processes", "limits.pids"),
    ("wallSeconds", "wallLimitSeconds", "the time", "limits.timeoutMs"),
)


def _advice(body: dict[str, Any]) -> str | None:
    """One sentence about the limit that was nearest, if one was near."""
    share, name, option = max((body[used] / body[limit], name, option) for used, limit, name, option in _NEAR_LIMITS)
    if share < NEAR:
        return None
    return f"{name[0].upper()}{name[1:]} came to {share:.0%} of its limit; {option} in the request raises it."


def control_group(container_id: str, pid: int) -> Source | None:
    """Reads the kernel's files about a container; None if they are not to be seen from here."""
    try:
        lines = (PROCESSES / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    # A process of that number on another machine than the engine's would not be in the container's group.
    places = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if not any(container_id in path for path in places.values()):
        return None
    if (CGROUPS / "cgroup.controllers").exists():
        return _guarded(lambda: _version_2(CGROUPS / places[""].lstrip("/")))
    folders = {name: CGROUPS / name / path.lstrip("/") for name, path in places.items() if name}
    return _guarded(lambda: _version_1(folders))


def _guarded(read: Callable[[], Sample]) -> Source:
    """A group vanishes with its container."""

    def source() -> Sample | None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            return read()
        return None

    return source


def _version_2(group: Path) -> Sample:
    cpu, memory = _table(group / "cpu.stat"), _table(group / "memory.stat")
    return Sample(
        cpu_s=cpu["usage_usec"] / 1e6,
        throttled_s=cpu.get("throttled_usec", 0) / 1e6,
        memory_bytes=int((group / "memory.current").read_text()) - memory["file"],
        processes=int((group / "pids.current").read_text()),
        oom_kills=_table(group / "memory.events")["oom_kill"],
    )


def _version_1(groups: dict[str, Path]) -> Sample:
    memory = groups["memory"]
    return Sample(
        cpu_s=int((groups["cpuacct"] / "cpuacct.usage").read_text()) / 1e9,
        throttled_s=_table(groups["cpu"] / "cpu.stat")["throttled_time"] / 1e9,
        memory_bytes=int((memory / "memory.usage_in_bytes").read_text()) - _table(memory / "memory.stat")["cache"],
        processes=int((groups["pids"] / "pids.current").read_text()),
        oom_kills=_table(memory / "memory.oom_control").get("oom_kill", 0),
    )


def _table(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


def _engine_source(engine: Engine, container_id: str) -> Source:
    """What the engine tells about a container, once a second from a thread that ends with it."""
    newest: list[Sample | None] = [None]

    def listen() -> None:
        with contextlib.suppress(*ENGINE_ERRORS, KeyError, ValueError):
            for told in engine.api.stats(container_id, decode=True, stream=True):
                newest[0] = _told(told) or newest[0]

    threading.Thread(target=listen, name=f"stats {container_id[:12]}", daemon=True).start()
    return lambda: newest[0]


def _told(told: dict[str, Any]) -> Sample | None:
    """A sample from the engine's answer; None for the empty one that it gives of an ended container."""
    memory, cpu = told.get("memory_stats") or {}, told["cpu_stats"]
    if "usage" not in memory:
        return None
    files = memory.get("stats", {})
    return Sample(
        cpu_s=cpu["cpu_usage"]["total_usage"] / 1e9,
        throttled_s=cpu.get("throttling_data", {}).get("throttled_time", 0) / 1e9,
        memory_bytes=memory["usage"] - files.get("file", files.get("cache", 0)),
        processes=told.get("pids_stats", {}).get("current", 0),
    )
