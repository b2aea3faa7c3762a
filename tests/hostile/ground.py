"""The whole service, with things planted around it that no job may see, reach or change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import redis
import requests

import config
import stack
from executor.spec import LABEL
from stack import Stack
from tests.conftest import private_redis
from tests.faults.containers import not_waiting
from tests.faults.proxy import Proxy

#: Limits small enough to be reached within a second or two.
SETTINGS = {
    "MAX_CONCURRENT_WORKERS": "3",
    "WORKER_MEMORY_LIMIT": "256m",
    "WORKER_DISK_LIMIT": "64m",
    "COMMAND_TIMEOUT": "60000",
    "ARTIFACT_MAX_BYTES": "8m",
    "WEBHOOK_PROGRESS": "true",
    "RESULT_CACHE_HOURS": "0",
    "DEPENDENCY_CACHE_BYTES": "0",
}
#: What a job could change of the kernel if it got at it.
HOST_VALUES = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/hostname",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/overcommit_memory", "/sys/kernel/uevent_helper",
)  # fmt: skip
CALM_S = 8.0
#: What the executor may ask of the engine. Nothing here enters a container, or copies from one.
ASKED = re.compile(
    r"GET /(?:_ping|version|info|events|images/X/json|containers/json|containers/X/(?:json|stats)|volumes|networks)"
    r"|POST /(?:containers/create|containers/X/(?:start|attach|kill|rename|wait)|volumes/create|networks/create)"
    r"|DELETE /(?:containers|volumes)/X"
)
_REQUEST = re.compile(rb"^(GET|POST|PUT|DELETE|HEAD|PATCH) (?:/v[\d.]+)?(/\S*) HTTP/1\.1\r$", re.MULTILINE)
_NAME = re.compile(r"(?<=/)(?:[0-9a-f]{64}|cw-[^/]+|chef-[^/]+)(?=/|$)")


class Door(Proxy):
    """The engine's socket as the service sees it; remembers what was asked there."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.asked: set[str] = set()

    def heard(self, data: bytes) -> None:
        for method, path in _REQUEST.findall(data):
            self.asked.add(f"{method.decode()} {_NAME.sub('X', path.decode().partition('?')[0])}")

    def odd(self) -> list[str]:
        """What should never be asked."""
        return sorted(asked for asked in self.asked if not ASKED.fullmatch(asked))


class Trap:
    """Listens on every address of the host, as a careless service does; counts who comes."""

    def __init__(self) -> None:
        self.hits = 0
        self._server = socket.create_server(("0.0.0.0", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, name="trap", daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._server.accept()[0].close()
                self.hits += 1

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@dataclass
class Ground:
    """A running service, what was planted, and how it was before."""

    service: Stack
    settings: config.Settings
    folder: Path
    door: Door
    trap: Trap
    client: docker.DockerClient
    store: redis.Redis
    secrets: dict[str, str]
    runtime: str = ""
    before: dict[str, str] = field(default_factory=dict)
    resident_mb: float = 0.0

    @property
    def places(self) -> dict[str, str]:
        """What stands for what in an item's files."""
        return {"TRAP": str(self.trap.port), "HOSTS": " ".join(addresses()), "FOLDER": str(self.folder)}

    def post(self, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.service.url}/api/jobs", json=body, timeout=30)

    def record(self, job_id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.service.url}/api/jobs/{job_id}", timeout=30)
        return dict(answer.json())

    def host(self) -> dict[str, str]:
        """The planted files and what the kernel was set to, and what lies in our folders beside artifacts."""
        facts = {path: Path(path).read_text() for path in HOST_VALUES if Path(path).exists()}
        planted = [path for path in self.folder.rglob("*") if path.name.startswith("planted")]
        facts |= {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in planted}
        facts["redis"] = str(self.store.get("planted"))
        facts["folders"] = " ".join(sorted(str(path) for path in self.folder.glob("*")))
        return facts

    def left(self) -> list[str]:
        """Containers, volumes and networks of this service that are there although no job runs."""
        filters = {"label": [f"{LABEL}=1", f"{LABEL}.service={self.settings.service}"]}
        deadline = time.monotonic() + CALM_S
        while found := self._objects(filters):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return found

    def _objects(self, filters: dict[str, Any]) -> list[str]:
        api = self.client.api
        containers = [found["Names"][0] for found in api.containers(all=True, filters=filters)]
        volumes = [found["Name"] for found in api.volumes(filters=filters)["Volumes"] or []]
        return not_waiting(containers, volumes)

    def grown_mb(self) -> float:
        """How much more memory API and worker hold than at the beginning."""
        return sum(map(resident_mb, self.service.processes.values())) - self.resident_mb

    def told(self) -> str:
        """What else the service says: its receiver's events, its health and figures, its own log."""
        events = json.dumps(self.service.events, ensure_ascii=False)
        pages = [requests.get(f"{self.service.url}/api/{page}", timeout=10).text for page in ("health", "stats")]
        return "\n".join([events, *pages, (self.folder / "service.log").read_text(errors="replace")])


@contextlib.contextmanager
def standing(runtime: str = "", engine: str = "/var/run/docker.sock") -> Iterator[Ground]:
    """The service with everything planted; taken down at the end."""
    planted = {name: f"canary-{name}-{secrets.token_hex(12)}" for name in ("environment", "file", "redis")}
    with contextlib.ExitStack() as parts:
        # Not below tmp_path of pytest: a Unix socket's path may be at most 107 bytes long.
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="cw-hostile-")))
        plant(folder, planted["file"])
        parts.enter_context(planted_variable("CANARY_ENV", planted["environment"]))
        redis_url = parts.enter_context(private_redis())
        store = redis.Redis.from_url(redis_url)
        parts.callback(store.close)
        store.set("planted", planted["redis"])
        door = Door(engine)
        address = parts.enter_context(door.serve(folder / "engine.sock"))
        extra = {"SANDBOX_RUNTIME": runtime, "WORKER_PIDS_LIMIT": "1024"} if runtime else {}
        settings = config.load(
            {**SETTINGS, **extra, "REDIS_URL": redis_url, "DATA_DIR": str(folder / "data"),
             "DOCKER_HOST": f"unix://{address}", "REDIS_PREFIX": stack.unique_prefix()}
        )  # fmt: skip
        client = docker.DockerClient(base_url=f"unix://{engine}", timeout=30)
        parts.callback(client.close)
        trap = Trap()
        parts.callback(trap.close)
        running = stack.running(settings, lambda text: None, port=0, log=folder / "service.log")
        service = parts.enter_context(running)
        ground = Ground(service, settings, folder, door, trap, client, store, planted, runtime)
        ground.secrets["webhooks"] = service.environment["WEBHOOK_SECRET"]
        ground.before = ground.host()
        ground.resident_mb = sum(map(resident_mb, service.processes.values()))
        yield ground


def plant(folder: Path, secret: str) -> None:
    """Files that anybody on the host may read or change, where a path that leads out of a job's would end up."""
    for place in ("planted", "data/planted", "data/artifacts/planted"):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret)
        path.chmod(0o666)
    folder.chmod(0o755)


@contextlib.contextmanager
def planted_variable(name: str, value: str) -> Iterator[None]:
    """A secret in the environment of the service's processes."""
    os.environ[name] = value  # noqa: TID251  (this is what they inherit)
    try:
        yield
    finally:
        del os.environ[name]  # noqa: TID251


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """Memory of a process and its children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in (process.pid, *children)]
    return sum(int(found[1]) for text in texts if (found := re.search(r"VmRSS:\s+(\d+)", text))) / 1024


def addresses() -> list[str]:
    """The host's own IPv4 addresses, without loopback."""
    listed = json.loads(subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, check=True).stdout)
    found = [address["local"] for link in listed for address in link["addr_info"]]
    return [address for address in found if not address.startswith("127.")]
