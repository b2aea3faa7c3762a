"""What one job may ask for in place of the usual limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

import allowance
import config
from errors import InvalidRequest
from intake import Bounds, parse
from jobs import Limits, Request

SETTINGS = config.load({"MAX_MEMORY_LIMIT": "1g", "WORKER_CPU_LIMIT": "8", "MAX_CPU_LIMIT": "2"})
BOUNDS = Bounds(limits=SETTINGS.allowance)


def request(**limits: Any) -> Request:
    body = {"type": "build", "data": {"projectFiles": {"a": ""}}, "limits": limits}
    return parse(json.dumps(body).encode(), BOUNDS)[0]


def test_nothing_asked_for() -> None:
    """Without a word about limits, a job gets the service's."""
    assert request().limits == {}
    assert SETTINGS.limits.changed({}) == SETTINGS.limits


def test_asked_for() -> None:
    """What a job asks for takes the place of the usual, in the units of the limits; the rest stays."""
    wanted = request(memoryBytes=1 << 30, diskBytes=1 << 28, cpus=0.5, pids=64, outputBytes=4096, timeoutMs=600_000)

    limits = SETTINGS.limits.changed(wanted.limits)

    assert (limits.memory_bytes, limits.disk_bytes, limits.cpus, limits.pids) == (1 << 30, 1 << 28, 0.5, 64)
    assert (limits.output_bytes, limits.total_s, limits.install_s) == (4096, 600.0, SETTINGS.limits.install_s)


def test_more_time() -> None:
    """More time for the job is more time for its command, unless the command's own is given."""
    assert request(timeoutMs=600_000).limits == {"total_s": 600.0, "command_s": 600.0}
    assert request(timeoutMs=600_000, commandTimeoutMs=5_000).limits == {"total_s": 600.0, "command_s": 5.0}


def test_kept() -> None:
    """A job's limits survive the store."""
    wanted = request(cpus=1.5, installTimeoutMs=2_500)

    assert Request.from_bytes(wanted.to_bytes()).limits == {"cpus": 1.5, "install_s": 2.5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memoryBytes", (1 << 30) + 1),
        ("memoryBytes", 1 << 20),
        ("memoryBytes", "512m"),
        ("memoryBytes", 1e9 + 0.5),
        ("cpus", 8.5),
        ("cpus", 0),
        ("cpus", True),
        ("cpus", None),
        ("pids", 64.5),
        ("pids", -1),
        ("timeoutMs", 10**30),
        ("outputBytes", 2 << 30),
    ],
)
def test_refused(name: str, value: Any) -> None:
    """What is no number, or outside the settings' range, is a mistake that names the limit and its range."""
    with pytest.raises(InvalidRequest) as caught:
        request(**{name: value})

    (mistake,) = caught.value.mistakes
    assert mistake.pointer == f"#/limits/{name}"
    assert f"{SETTINGS.allowance[name].most:,}" in mistake.detail


def test_unknown() -> None:
    """A limit that does not exist is a mistake that lists those that do."""
    with pytest.raises(InvalidRequest, match=r"known are memoryBytes, .*commandTimeoutMs"):
        request(memory="1g")


def test_the_usual_may_be_asked_for() -> None:
    """A usual limit above its MAX_ setting may be asked for all the same."""
    assert request(cpus=8).limits == {"cpus": 8}


def test_names() -> None:
    """Every limit that may be asked for is a field of Limits, and has a range."""
    fields = {field for field, _ in allowance.FIELDS.values()}

    assert fields <= set(Limits.__dataclass_fields__)
    assert SETTINGS.allowance.keys() == allowance.FIELDS.keys()
