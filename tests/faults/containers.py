"""Jobs in real containers: projects that wait and write a file, and what the engine holds of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import docker
from docker.errors import APIError, NotFound

import config
from executor.cellar import volume_of
from executor.spec import LABEL, PARKED
from jobs import JobType, Request
from stack import unique_prefix
from tests.faults.service import REAL, Service, running

REMOVED_S = 10.0


def waiting_project(ms: int, chat: str = "chat") -> Request:
    """A build that waits and then writes one file."""
    script = (
        "import fs from 'node:fs'; console.log('begun');"
        f"setTimeout(() => {{ fs.mkdirSync('dist'); fs.writeFileSync('dist/done.txt', 'done') }}, {ms})"
    )
    package = json.dumps({"type": "module", "scripts": {"build": "node build.mjs"}})
    return Request(JobType.BUILD, files={"package.json": package, "build.mjs": script}, chat_id=chat)


def not_waiting(containers: list[str], volumes: list[str]) -> list[str]:
    """Names of containers and volumes without those that wait for a job: a shell that has one is called by it."""
    waiting = {name.rpartition("-")[0].lstrip("/") for name in containers if re.fullmatch(f"/{PARKED}.*-2", name)}
    ours = [name for name in containers if name.rpartition("-")[0].lstrip("/") not in waiting]
    return ours + [name for name in volumes if name not in waiting]


@contextmanager
def running_containers(
    workers: int = 2, engine: str = "", seen_at: str = "", huey: str = REAL, **settings: str
) -> Iterator[tuple[Service, Engine]]:
    """A service with the real executor, whose containers nobody else sweeps, at the engine of this address.

    `seen_at` is where the same engine is looked at, past any proxy.
    """
    prefix = unique_prefix()
    if engine:
        settings["DOCKER_HOST"] = engine
    with running(workers, huey, REDIS_PREFIX=prefix, **settings) as service:
        name = config.load(service.settings).service
        with closing(Engine(name, seen_at)) as seen:
            try:
                yield service, seen
            finally:
                seen.remove_all()
                seen.remove_volume(volume_of(name))


class Engine:
    """What the Docker Engine holds of one service, seen past any proxy."""

    def __init__(self, name: str, url: str) -> None:
        self._api = docker.DockerClient(base_url=url).api if url else docker.from_env().api
        self._filters = {"label": [f"{LABEL}.service={name}"]}

    def objects(self) -> list[str]:
        """Names of its containers and workspaces; what waits for a job is nobody's."""
        containers = [found["Names"][0] for found in self._api.containers(all=True, filters=self._filters)]
        volumes = [found["Name"] for found in self._api.volumes(filters=self._filters)["Volumes"] or []]
        return not_waiting(containers, volumes)

    def alive(self, job_id: str) -> list[str]:
        """Names of the running containers of a job."""
        filters = {**self._filters, "name": job_id, "status": "running"}
        return [found["Names"][0] for found in self._api.containers(filters=filters)]

    def remove_all(self) -> None:
        """Leave nothing behind, whatever the test did."""
        deadline = time.monotonic() + REMOVED_S
        while self._remove() and time.monotonic() < deadline:
            time.sleep(0.1)  # a worker that ends removes what waited, at the same time

    def remove_volume(self, name: str) -> None:
        """Remove what jobs share, which a service that goes on would find again."""
        with suppress(NotFound):
            self._api.remove_volume(name)

    def _remove(self) -> bool:
        """Remove all that is there; False if nothing was."""
        containers = self._api.containers(all=True, filters=self._filters)
        volumes = self._api.volumes(filters=self._filters)["Volumes"] or []
        for found in containers:
            with suppress(APIError):
                self._api.remove_container(found["Id"], force=True, v=True)
        for found in volumes:
            with suppress(APIError):
                self._api.remove_volume(found["Name"], force=True)
        return bool(containers or volumes)

    def close(self) -> None:
        self._api.close()
