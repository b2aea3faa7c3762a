"""What all sandboxes of an engine's machine have in common, and a slot whose container cannot be removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from errors import EngineFault
from executor import Executor, house
from executor.house import Wish, settle, whole
from executor.images import Images
from executor.sandbox import Engine
from executor.spec import House
from jobs import Job, JobType, Request, Status
from tests.engine_cases import LIMITS, Recorder

GIB = 1 << 30


class Told(Engine):
    """An engine that says what it is told to, and lists one container that it cannot remove."""

    def __init__(self, **told: Any) -> None:
        super().__init__(None)
        self.told = told
        self.removable = False

    @property
    def api(self) -> Any:
        return self

    def info(self) -> dict[str, Any]:
        return self.told

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Names": ["/cw-job-1-2-3"], "Id": "x"}]

    def volumes(self, **_: Any) -> dict[str, Any]:
        return {"Volumes": None}

    def remove_container(self, *_: Any, **__: Any) -> None:
        if not self.removable:
            raise APIError("tried to kill container, but did not receive an exit event")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(house, "CGROUPS", tmp_path)
    return tmp_path


LIMITS_OF_ONE_GIB = replace(LIMITS, memory_bytes=GIB // 2, disk_bytes=GIB // 2)


@pytest.mark.parametrize(
    ("workspace", "memory", "in_memory"),
    [("auto", 8 * GIB, True), ("auto", 5 * GIB, False), ("memory", GIB, True), ("disk", 64 * GIB, False)],
)
def test_workspace(groups: Path, workspace: Any, memory: int, in_memory: bool) -> None:
    """Workspaces are in memory if that is asked for, or if all slots' limits fit in three quarters of the memory."""
    engine = Told(CgroupDriver="none", MemTotal=memory)

    assert settle(engine, Wish("", workspace, slots=5), LIMITS_OF_ONE_GIB) == House("", "", in_memory)


@pytest.mark.parametrize(
    ("wish", "memory", "cpus"),
    [
        (Wish(slots=2), 750, 4.0),
        (Wish(slots=8), 750, 8.0),
        (Wish(slots=8, memory_budget=600, cpu_budget=1.5), 600, 1.5),
    ],
)  # fmt: skip
def test_whole(wish: Wish, memory: int, cpus: float) -> None:
    """All jobs together get three quarters of the memory, and processors for as many usual jobs as there are slots."""
    found = whole(Told(MemTotal=1000, NCPU=4), wish, replace(LIMITS, cpus=1.0))

    assert (found.memory_bytes, found.cpus) == (memory, cpus)


@pytest.mark.parametrize(
    ("driver", "parent"), [("cgroupfs", "/chef-workers"), ("systemd", "chefworkers.slice"), ("none", "")]
)
def test_parent(groups: Path, driver: str, parent: str) -> None:
    """All sandboxes are in one group, named as the engine's driver wants it; a rootless engine may have none."""
    assert settle(Told(CgroupDriver=driver, MemTotal=GIB), Wish("runsc"), LIMITS).cgroup_parent == parent


def test_caps(groups: Path) -> None:
    """Where the groups are ours to write, the sandboxes together are capped and weigh little."""
    for controller in ("memory", "cpu"):
        (groups / controller).mkdir()

    settle(Told(CgroupDriver="cgroupfs", MemTotal=1000), Wish(), LIMITS)

    assert (groups / "memory/chef-workers/memory.limit_in_bytes").read_text() == "850"
    assert (groups / "cpu/chef-workers/cpu.shares").read_text() == "256"


def test_caps_of_version_2(groups: Path) -> None:
    """The same with control groups of version 2."""
    (groups / "cgroup.controllers").touch()

    settle(Told(CgroupDriver="cgroupfs", MemTotal=1000), Wish(), LIMITS)

    assert (groups / "chef-workers/memory.max").read_text() == "850"
    assert (groups / "chef-workers/cpu.weight").read_text() == "25"


def test_no_right_to_cap(groups: Path) -> None:
    """Where they are not, the sandboxes run all the same."""
    assert settle(Told(CgroupDriver="cgroupfs", MemTotal=1000), Wish(), LIMITS).cgroup_parent == "/chef-workers"


def test_quarantine(groups: Path, tmp_path: Path) -> None:
    """A container that cannot be removed keeps its slot until it can; other slots go on."""
    executor = Executor(None, Images(tmp_path, registry=""), service="cw")
    engine = executor._engine = Told(CgroupDriver="none", MemTotal=GIB)
    executor._in_slot[4] = "cw-job-1-2"
    job = Job("job-3", JobType.BUILD, Status.ACTIVE, priority=5, created_ms=0, fence=1)

    assert executor.sweep(lambda *_: False) == []

    assert (executor.is_free(4), executor.is_free(5)) == (False, True)
    with pytest.raises(EngineFault, match="still runs in slot 4"):
        executor.run(job, Request(JobType.BUILD, {}, command="true"), LIMITS, 4, Recorder())

    engine.removable = True
    assert executor.is_free(4)
