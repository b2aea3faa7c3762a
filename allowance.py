"""What one job may ask for in place of the usual limits: within which range, and what it then gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from errors import Mistake

#: A request's name for a limit -> the field of jobs.Limits, and how many of the one make one of the other.
FIELDS: dict[str, tuple[str, int]] = {
    "memoryBytes": ("memory_bytes", 1),
    "diskBytes": ("disk_bytes", 1),
    "outputBytes": ("output_bytes", 1),
    "cpus": ("cpus", 1),
    "pids": ("pids", 1),
    "timeoutMs": ("total_s", 1000),
    "installTimeoutMs": ("install_s", 1000),
    "commandTimeoutMs": ("command_s", 1000),
}


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most that may be asked for."""

    least: float
    most: float


Allowance = Mapping[str, Range]


def mistakes(wanted: Mapping[str, Any], allowance: Allowance) -> Iterator[Mistake]:
    """What is wrong with a request's `limits`."""
    for name, value in wanted.items():
        kind = "a number" if name == "cpus" else "a whole number"
        if name not in allowance:
            yield Mistake("#/limits", f"There is no such limit; known are {', '.join(allowance)}.")
        elif not _is_number(value, whole=name != "cpus") or not allowance[name].least <= value <= allowance[name].most:
            least, most = allowance[name].least, allowance[name].most
            yield Mistake(f"#/limits/{name}", f"{name} must be {kind} from {least:,} to {most:,}.")


def granted(wanted: Mapping[str, float]) -> dict[str, float]:
    """The fields of jobs.Limits that follow from a request's checked `limits`.

    More time for the whole job without a word about its command is meant for its command.
    """
    if "timeoutMs" in wanted:
        wanted = {"commandTimeoutMs": wanted["timeoutMs"], **wanted}
    fields = {name: (value, *FIELDS[name]) for name, value in wanted.items()}
    return {field: value if factor == 1 else value / factor for value, field, factor in fields.values()}


def _is_number(value: object, *, whole: bool) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)
