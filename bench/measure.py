"""How all parts measure: contenders take turns, medians with their spread count, a line names machine and load."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench import nodejs
from errors import SetupError

T = TypeVar("T")


def in_turns(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each contender returned, once a round: a slow minute of the machine hits them all."""
    measured: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            began = time.monotonic()
            measured[name].append(run())
            say(f"round {number + 1} of {rounds}, {time.monotonic() - began:5.1f} s: {name}")
    return measured


def say(text: str) -> None:
    """One line for whoever watches; the tables come at the end."""
    print(f"  {text}", flush=True)


def spread(values: Iterable[float], digits: int = 0) -> str:
    """The median, and in brackets the smallest and the largest."""
    numbers = sorted(values)
    low, middle, high = (f"{number:,.{digits}f}" for number in (numbers[0], statistics.median(numbers), numbers[-1]))
    return f"{middle} ({low}–{high})"


def quantile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all are not above."""
    return sorted(values)[max(0, round(len(values) * percent / 100) - 1)]


def table(head: str, rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """Markdown. `head` has the titles, separated by |; after `names` columns come numbers, at the right of theirs."""
    titles = [title.strip() for title in head.split("|")]
    lines = [titles, ["---"] * names + ["---:"] * (len(titles) - names), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def quietly(command: Sequence[str], **options: Any) -> None:
    """Run a program to its good end. Raises SetupError, with the end of what it said."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise SetupError(f"`{' '.join(command)}` failed with code {done.returncode}:\n{done.stderr[-2000:]}")


def surroundings() -> str:
    """Date, machine, versions and load, as a sentence for above the tables."""
    now = dt.datetime.now(dt.UTC)
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    parts = [
        f"{now:%Y-%m-%d %H:%M} UTC",
        f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"Node {_printed(nodejs.binary(), '--version').removeprefix('v')}",
        f"load average {load()}",
    ]
    return "; ".join(parts)


def cpu_s(group: int) -> float:
    """What all processes of a process group have used so far, in user and system mode (s, to 10 ms)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            facts = path.read_text().rpartition(")")[2].split()
            ticks += int(facts[11]) + int(facts[12]) if int(facts[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def load() -> str:
    """How busy the machine was in the last 1, 5 and 15 minutes."""
    return ", ".join(f"{average:.1f}" for average in os.getloadavg())


def _printed(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
