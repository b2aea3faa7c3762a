"""docker-compose.yml for real: images made, the service brought up, a job through it, everything taken down."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import machine
from stack import Stack, free_port
from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".data", ".env", ".*_cache", "node_modules", "__pycache__")
EXAMPLE = ROOT / "examples" / "react-app"


@dataclass(frozen=True)
class Composed:
    """A copy of the project, brought up under a name of its own."""

    folder: Path
    project: str
    url: str
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """What a command in the copy prints; it must succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def objects(self, *kind: str) -> list[str]:
        """What the engine has of this project: containers, volumes or networks."""
        command = ["docker", *kind, "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        return self.run(*command).split()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The service in containers, on a free port, with secrets of its own; taken down and removed at the end."""
    if not shutil.which("docker-compose"):
        machine.apt_install("docker-compose")
    folder = tmp_path_factory.mktemp("compose") / "chef"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    name, port = f"cwtest{secrets.token_hex(4)}", free_port()
    environment = {
        **os.environ,  # noqa: TID251  (what a shell would hand on)
        "PYTHON": sys.executable,
        "COMPOSE_PROJECT_NAME": name,
        "PUBLISH": f"127.0.0.1:{port}",
        "CHEF_IMAGE": f"chef-workers:{name}",
    }
    service = Composed(folder, name, f"http://127.0.0.1:{port}", environment)
    service.run(sys.executable, "cli.py", "secrets")
    with (folder / ".env").open("a") as settings:
        settings.write("DEPENDENCY_CACHE_BYTES=0\n")  # what stays for later jobs would stay on this machine
    service.run("deploy/images")
    try:
        service.run("docker-compose", "up", "--detach")
        yield service
    finally:
        service.run("docker-compose", "down", "--volumes", "--timeout", "20")
        service.run("docker", "image", "rm", "--force", f"chef-workers:{name}")


@pytest.fixture
def client(composed: Composed) -> Client:
    """A caller of the service, once it and its worker are healthy."""
    return healthy(composed)


def healthy(composed: Composed) -> Client:
    """Wait until all three containers are healthy, at most a minute."""
    caller = Client(Stack(composed.url, "", {}))
    found = ["docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={composed.project}"]
    caller.wait(lambda: len(composed.run(*found, "--filter", "health=healthy").split()) == 3, 60, "healthy containers")
    return caller


def test_build_through_containers(composed: Composed, client: Client) -> None:
    """A real build runs in sandboxes beside the worker's own container, and its files can be had from the API's."""
    files = {str(path.relative_to(EXAMPLE)): path.read_text() for path in EXAMPLE.rglob("*") if path.is_file()}
    record = client.ended(client.submit(files), 240)

    assert record["conclusion"] == "success", record["message"]
    assert "index.html" in {artifact["path"] for artifact in record["artifacts"]}
    assert b"<div" in client.get(f"{record['jobId']}/artifacts/index.html").content


def test_only_the_worker_has_the_engine(composed: Composed, client: Client) -> None:
    """The API's container sees no socket of the engine, and no container is root, privileged or able to become it."""
    for name in ("redis", "api", "worker"):
        (container,) = composed.run("docker-compose", "ps", "--quiet", name).split()
        (told,) = json.loads(composed.run("docker", "inspect", container))
        host = told["HostConfig"]

        assert any("docker.sock" in mount["Destination"] for mount in told["Mounts"]) == (name == "worker")
        assert told["Config"]["User"] == ("redis" if name == "redis" else "chef")
        assert (host["Privileged"], host["CapDrop"], host["ReadonlyRootfs"]) == (False, ["ALL"], True)
        assert "no-new-privileges:true" in host["SecurityOpt"]


def test_redis_wants_its_password(composed: Composed, client: Client) -> None:
    """Redis is not published, and refuses whoever does not know the password that was made for it."""
    (container,) = composed.run("docker-compose", "ps", "--quiet", "redis").split()
    (told,) = json.loads(composed.run("docker", "inspect", container))

    assert not any(told["NetworkSettings"]["Ports"].values())
    assert "NOAUTH" in composed.run("docker", "exec", container, "redis-cli", "ping")
    password = next(line for line in (composed.folder / ".env").read_text().splitlines() if "REDIS_PASSWORD" in line)
    assert password.partition("=")[2] not in composed.run("docker", "top", container)


def test_backup_and_restore(composed: Composed, client: Client, tmp_path: Path) -> None:
    """What was copied of a running service is there again after all its volumes were lost, and it goes on with it."""
    record = client.run({"package.json": '{"scripts": {"build": "mkdir dist && echo made >dist/a.txt"}}'})
    composed.run("deploy/backup", str(tmp_path))
    composed.run("docker-compose", "down", "--volumes", "--timeout", "20")
    composed.run("deploy/restore", str(tmp_path))
    composed.run("docker-compose", "up", "--detach")
    client = healthy(composed)

    assert client.get(record["jobId"]).json()["conclusion"] == "success"
    assert client.get(f"{record['jobId']}/artifacts/a.txt").text == "made\n"
    files = {"package.json": '{"scripts": {"build": "mkdir dist && echo anew >dist/a.txt"}}'}
    assert client.run(files, chatId="after")["conclusion"] == "success"
    assert (
        "not empty"
        in subprocess.run(
            ["deploy/restore", str(tmp_path)],
            cwd=composed.folder,
            env=composed.environment,
            capture_output=True,
            text=True,
            check=False,
        ).stderr
    )


def test_stopped_in_time_and_kept(composed: Composed, client: Client) -> None:
    """Down ends each part by its own stop signal, none is killed, and what was kept is there after the next up."""
    record = client.run({"package.json": '{"scripts": {"build": "mkdir dist && echo made >dist/a.txt"}}'})
    composed.run("docker-compose", "stop")
    ends = composed.run("docker", "inspect", "--format", "{{.State.ExitCode}}", *composed.objects("ps", "--all"))

    assert set(ends.split()) <= {"0", "143"}, ends
    composed.run("docker-compose", "up", "--detach")
    client = healthy(composed)
    assert client.get(record["jobId"]).json()["conclusion"] == "success"
    assert client.get(f"{record['jobId']}/artifacts/a.txt").text == "made\n"


def test_down_is_clean(composed: Composed, client: Client) -> None:
    """After down nothing of the project is left but its volumes."""
    composed.run("docker-compose", "down", "--timeout", "20")
    try:
        assert composed.objects("ps", "--all") == composed.objects("network", "ls") == []
        assert len(composed.objects("volume", "ls")) == 2
    finally:
        composed.run("docker-compose", "up", "--detach")
