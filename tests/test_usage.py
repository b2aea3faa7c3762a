"""What is read about containers, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor import usage
from executor.usage import Sample, Usage, control_group
from tests.engine_cases import LIMITS

ID = "0123456789abcdef" * 4


def files(root: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /proc and /sys/fs/cgroup."""
    monkeypatch.setattr(usage, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(usage, "CGROUPS", tmp_path / "cgroup")
    return tmp_path


def test_version_1(kernel: Path) -> None:
    """The counters of control groups of version 1 are read, each from its own hierarchy."""
    group = f"/chef-workers/{ID}"
    files(kernel, {"proc/7/cgroup": f"4:memory:{group}\n3:cpu,cpuacct:{group}\n2:pids:{group}\n0::/other"})
    files(
        kernel / "cgroup",
        {
            f"cpuacct{group}/cpuacct.usage": "2500000000",
            f"cpu{group}/cpu.stat": "nr_periods 9\nthrottled_time 1000000000",
            f"memory{group}/memory.usage_in_bytes": "5000",
            f"memory{group}/memory.stat": "cache 2000\nrss 2500",
            f"memory{group}/memory.oom_control": "oom_kill_disable 0\noom_kill 2",
            f"pids{group}/pids.current": "12",
        },
    )

    source = control_group(ID, 7)

    assert source
    assert source() == Sample(2.5, 1.0, 3000, 12, 2)


def test_version_2(kernel: Path) -> None:
    """The counters of version 2 are read from the one group."""
    group = f"/system.slice/docker-{ID}.scope"
    files(kernel, {"proc/7/cgroup": f"0::{group}", "cgroup/cgroup.controllers": "cpu memory pids"})
    files(
        kernel / f"cgroup{group}",
        {
            "cpu.stat": "usage_usec 2500000\nthrottled_usec 1000000",
            "memory.current": "5000",
            "memory.stat": "anon 2500\nfile 2000",
            "memory.events": "oom 2\noom_kill 2",
            "pids.current": "12",
        },
    )

    source = control_group(ID, 7)

    assert source
    assert source() == Sample(2.5, 1.0, 3000, 12, 2)


def test_another_machine(kernel: Path) -> None:
    """A process of the same number that is not the container's is not looked at."""
    files(kernel, {"proc/7/cgroup": "0::/init.scope"})

    assert control_group(ID, 7) is None
    assert control_group(ID, 8) is None


def test_vanished(kernel: Path) -> None:
    """A group that went with its container gives no sample, and no error."""
    files(kernel, {"proc/7/cgroup": f"0::/{ID}", "cgroup/cgroup.controllers": ""})

    source = control_group(ID, 7)

    assert source
    assert source() is None


def told(*samples: Sample) -> Usage:
    """A usage that has seen one container for each sample."""
    made = Usage()
    for sample in samples:
        made._source, made._due = lambda sample=sample: sample, 0.0  # type: ignore[misc]
        made.watch()
        made.end()
    return made


def test_sums_and_peaks() -> None:
    """Times add up over the containers of a run; what is held at a time does not."""
    body = told(Sample(1.5, 0.5, 200, 7, 1), Sample(2.0, 0.0, 100, 9, 0)).to_json(LIMITS, 12.3, {"bytes": 5, "sent": 3})

    figures: dict[str, Any] = {
        "cpuSeconds": 3.5, "throttledSeconds": 0.5, "memoryPeakBytes": 200, "processesPeak": 9, "oomKills": 1,
        "wallSeconds": 12.3, "diskPeakBytes": 5, "networkSentBytes": 3, "networkReceivedBytes": 0,
    }  # fmt: skip
    assert {name: body[name] for name in figures} == figures
    assert body["memoryLimitBytes"] == LIMITS.memory_bytes
    assert "advice" not in body


def test_killed_by_the_engines_word() -> None:
    """A container that the engine calls out of memory counts once, also if no sample saw it."""
    made = Usage()
    made.end(oom_killed=True)

    assert made.to_json(LIMITS, 1.0, {})["oomKills"] == 1


@pytest.mark.parametrize(
    ("sample", "disk", "said"),
    [
        (
            Sample(memory_bytes=int(LIMITS.memory_bytes * 0.95)),
            {},
            "Memory came to 95% of its limit; limits.memoryBytes",
        ),
        (Sample(processes=LIMITS.pids), {}, "The number of processes came to 100% of its limit; limits.pids"),
        (Sample(), {"bytes": LIMITS.disk_bytes * 0.92}, "The workspace came to 92% of its limit; limits.diskBytes"),
    ],
)
def test_advice(sample: Sample, disk: dict[str, Any], said: str) -> None:
    """Where a limit was near, one sentence says which, and what raises it."""
    assert told(sample).to_json(LIMITS, 1.0, disk)["advice"] == f"{said} in the request raises it."


def test_advice_of_the_nearest() -> None:
    """Of several limits that were near, the nearest is named."""
    limits = replace(LIMITS, total_s=10.0)

    advice = told(Sample(processes=int(limits.pids * 0.95))).to_json(limits, 9.9, {})["advice"]

    assert advice.startswith("The time came to 99%")
