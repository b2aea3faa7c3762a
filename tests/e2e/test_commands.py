"""The commands of the README, as a newcomer types them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import private_redis

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def redis_alone() -> Iterator[str]:
    """A Redis that no other test uses."""
    with private_redis() as url:
        yield url


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command's end and all that it printed."""
    variables = {**os.environ, **environment}  # noqa: TID251  (what a shell would hand on)
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=170, check=False)


def offspring(marker: str) -> list[str]:
    """Command lines of processes whose environment holds `marker`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_demo(redis_alone: str, tmp_path: Path) -> None:
    """`make demo` ends with 0, shows phases, artifacts and the verified webhook, and leaves nothing running."""
    done = run("make", "demo", REDIS_URL=redis_alone, DATA_DIR=str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("installing", "building", "completed (success) in", "index.html", "signature verified"):
        assert part in done.stdout
    assert not offspring(str(tmp_path))


def test_make_lists_the_commands() -> None:
    """`make` alone says what there is."""
    done = run("make")

    assert {"demo", "run", "test", "check", "bench"} <= {line.split()[1] for line in done.stdout.splitlines()}


def test_mistakes_in_settings_are_told_at_once() -> None:
    """Every wrong variable is named, no value is shown, and the command ends with 2."""
    done = run(sys.executable, "cli.py", "demo", PORT="http", WORKER_MEMORY_LIMIT="lots", WEBHOOK_SECRET="hunter2")

    assert done.returncode == 2
    assert all(name in done.stderr for name in ("PORT", "WORKER_MEMORY_LIMIT", "WEBHOOK_SECRET"))
    assert "hunter2" not in done.stdout + done.stderr


def test_unreachable_redis_is_explained(tmp_path: Path) -> None:
    """A configured Redis that does not answer ends the command with a sentence, not a traceback."""
    done = run(sys.executable, "cli.py", "demo", REDIS_URL="redis://127.0.0.1:1/0", DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "Redis at redis://127.0.0.1:1/0 does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_not_shown() -> None:
    """`cli.py config` prints the settings with every secret hidden."""
    secret = "whsec_" + "QUJD" * 10
    done = run(sys.executable, "cli.py", "config", WEBHOOK_SECRET=secret, REDIS_PASSWORD="hunter2")

    assert "MAX_CONCURRENT_WORKERS=" in done.stdout
    assert secret not in done.stdout
    assert "hunter2" not in done.stdout
