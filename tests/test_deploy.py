"""The files that others read: each number in them that follows from one of ours still does."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import config
from cli import COMMANDS

ROOT = Path(__file__).parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
UNITS = {part: ROOT / "deploy" / "systemd" / f"chef-workers-{part}.service" for part in ("api", "worker")}
#: A worker that is told to stop waits for its jobs, and then has a little to hand them back.
HAND_BACK_S = 15
GRACE_S = int(config.load({}).shutdown_grace_seconds)
API_GRACE_S = int(re.findall(r"^graceful_timeout = (\d+)", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)[0])


def compose_service(name: str) -> str:
    """The lines of one service."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", COMPOSE, re.MULTILINE)
    assert found
    return found[1]


def unit(part: str) -> configparser.SectionProxy:
    """The [Service] section of a unit."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS[part])
    return parser["Service"]


@pytest.mark.parametrize(("part", "least"), [("api", API_GRACE_S), ("worker", GRACE_S + HAND_BACK_S)])
def test_stop_waits_long_enough(part: str, least: int) -> None:
    """Neither compose nor systemd kills a part before its own grace is over."""
    waits = re.search(r"stop_grace_period: (\d+)s", compose_service(part))

    assert waits
    assert int(waits[1]) >= least
    assert int(unit(part)["TimeoutStopSec"]) >= least


@pytest.mark.parametrize("text", [COMPOSE, UNITS["worker"].read_text()])
def test_commands_exist(text: str) -> None:
    """Each command of ours that is called is one of cli.py's."""
    called = re.findall(r'cli\.py"?,? "?([a-z-]+)', text)

    assert called
    assert set(called) <= set(COMMANDS)


def test_nothing_is_privileged() -> None:
    """No file gives away more than the socket, and that to the worker alone; Redis is not published."""
    assert "privileged" not in COMPOSE.replace("no-new-privileges", "")
    assert "docker.sock" not in compose_service("api") + compose_service("redis")
    assert "ports:" not in compose_service("redis")
    assert not re.search(r"chmod\s+(-R\s+)?[0-7]*666", COMPOSE + (ROOT / "Dockerfile").read_text())


def test_only_the_worker_unit_may_speak_to_docker() -> None:
    """The API's unit has no group but its own and sees no devices."""
    assert "SupplementaryGroups" not in unit("api")
    assert unit("worker")["SupplementaryGroups"] == "docker"
    assert all(unit(part)["NoNewPrivileges"] == "yes" for part in UNITS)


@pytest.mark.parametrize("part", UNITS)
def test_units_read_a_file_that_a_reload_reads(part: str) -> None:
    """The settings are no environment of systemd's making, which a reload would not change."""
    assert "EnvironmentFile" not in unit(part)
    assert unit(part)["Environment"] == "SETTINGS_FILE=/etc/chef-workers.env"


def test_no_default_password() -> None:
    """A password that was not made stops docker-compose with a sentence; none has a default."""
    assert COMPOSE.count("${REDIS_PASSWORD:?") == COMPOSE.count("${REDIS_PASSWORD")
