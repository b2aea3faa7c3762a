"""Scripts of bundles, really run with Docker: they come to the conclusion that the service came to."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from executor.images import Images
from executor.reproduce import again
from executor.spec import House
from jobs import Conclusion, JobType, Request, Result
from tests.api_cases import UNKNOWN
from tests.engine_cases import LIMITS, Bench

pytestmark = pytest.mark.engine

HUNGRY = "const held = []; for (;;) held.push(new Uint8Array(8 << 20).fill(1))"


@pytest.fixture
def left_nothing(client: docker.DockerClient) -> Iterator[None]:
    """Afterwards no container and no volume of a script that has ended is there; other tests may run some beside."""
    yield
    names = [name for found in client.api.containers(all=True) for name in found["Names"]]
    names += [volume["Name"] for volume in client.api.volumes()["Volumes"] or []]
    scripts = [(name, found[1]) for name in names if (found := re.search(r"chef-again-(\d+)", name))]
    assert not [name for name, process in scripts if not Path("/proc", process).exists()]


def run_again(folder: Path, request: Request, result: Result, images: Images, **limits: Any) -> tuple[int, str]:
    """The exit code and the last line of a bundle's script."""
    ran = result.detail["sandbox"]
    house = House(ran["runtime"], in_memory=ran["workspace"] == "memory")
    made = again(request, replace(LIMITS, **limits), ran["image"], house, UNKNOWN)
    (folder / "workspace.tar").write_bytes(made.workspace)
    (folder / "seccomp.json").write_text(made.seccomp)
    (folder / "run.sh").write_text(made.script)
    environment = {**os.environ, **images.registry_environment, **request.env}  # noqa: TID251  (tests may ask)
    command = ["sh", str(folder / "run.sh")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env=environment)
    return done.returncode, done.stdout.strip().rpartition("\n")[2] + done.stderr[-500:] * (done.returncode == 69)


@pytest.mark.usefixtures("left_nothing")
@pytest.mark.parametrize(
    ("command", "limits", "told"),
    [
        ("cat logo.png | wc -c && test \"$GREETING\" = 'good day' && id -u", {}, "conclusion: success (exit code 0)"),
        ("echo no; exit 7", {}, "conclusion: failure (exit code 7)"),
        ("sleep 60", {"command_s": 2}, "conclusion: timeout (exit code 124)"),
        (f"node -e '{HUNGRY}'", {"memory_bytes": 128 << 20}, "conclusion: oom (exit code 137)"),
        ("wget -T 3 -q -O- http://192.0.2.1/ || touch /etc/x", {}, "conclusion: failure (exit code 1)"),
    ],
)
def test_same_conclusion(
    bench: Bench, images: Images, tmp_path: Path, command: str, limits: dict[str, Any], told: str
) -> None:
    """Success, failure, time and memory end in the script as they do in the service, with the same exit code."""
    request = Request(
        JobType.BUILD,
        {"package.json": "{}"},
        binary={"logo.png": "/w=="},
        command=command,
        env={"GREETING": "good day"},
    )

    result = bench.run(
        request.files,
        binary=request.binary,
        command=command,
        env=request.env,
        limits={"disk_bytes": 64 << 20, **limits},
    )
    code, line = run_again(tmp_path, request, result, images, disk_bytes=64 << 20, **limits)

    assert line == told
    assert result.conclusion.value in told
    if result.conclusion is not Conclusion.TIMEOUT:
        assert result.exit_code == code


@pytest.mark.usefixtures("left_nothing")
def test_with_an_install(bench: Bench, images: Images, tmp_path: Path) -> None:
    """A project with a dependency is installed and built again, from the registry that the caller names."""
    files = {
        "package.json": '{"dependencies":{"is-odd":"3.0.1"},"scripts":{"build":"node b.js"}}',
        "b.js": "process.exit(require('is-odd')(3) ? 0 : 1)",
    }
    result = bench.run(files)

    code, line = run_again(tmp_path, Request(JobType.BUILD, files), result, images)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert (code, line) == (0, "conclusion: success (exit code 0)")


@pytest.mark.usefixtures("left_nothing")
def test_an_interrupted_script(bench: Bench, images: Images, tmp_path: Path) -> None:
    """A script that is stopped in the middle leaves nothing behind."""
    request = Request(JobType.BUILD, {"package.json": "{}"}, command="echo begun; sleep 60")
    result = bench.run(request.files, command="true")
    made = again(request, LIMITS, result.detail["sandbox"]["image"], House(), UNKNOWN)
    (tmp_path / "workspace.tar").write_bytes(made.workspace)
    (tmp_path / "seccomp.json").write_text(made.seccomp)
    (tmp_path / "run.sh").write_text(made.script)

    with subprocess.Popen(
        ["sh", tmp_path / "run.sh"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        assert running.stdout
        while b"begun" not in running.stdout.readline():
            assert running.poll() is None
        os.killpg(running.pid, 15)
        deadline = time.monotonic() + 60
        while running.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert running.returncode
