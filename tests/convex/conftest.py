"""Fixtures for the Convex side: its packages in an image of their own, and its code served over real HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.errors import ImageNotFound
from docker.models.containers import Container

import webhook
from executor.images import NODE, Images
from executor.spec import LABEL
from tests.engine_cases import ENGINE_URL

CONVEX = Path(__file__).parent.parent.parent / "convex"
SOURCES = ("src", "test", "example", "tsconfig.json", "vitest.config.ts", ".prettierignore")
PORT = "3211/tcp"
DOCKERFILE = """
ARG BASE
FROM ${BASE}
WORKDIR /convex
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
"""


class Packages:
    """Images with the npm packages of a lock file. Each is made once, and needs the registry only then."""

    def __init__(self, client: docker.DockerClient, base: str) -> None:
        self._client = client
        self._base = base

    def image(self, folder: Path) -> str:
        """The image with what `folder`'s package-lock.json lists."""
        context = packed(folder, ("package.json", "package-lock.json"), {"Dockerfile": DOCKERFILE})
        parts = [self._base.encode(), *((folder / name).read_bytes() for name in ("package.json", "package-lock.json"))]
        reference = f"chef-convex-test:{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}"
        try:
            self._client.images.get(reference)
        except ImageNotFound:
            options: dict[str, Any] = {"buildargs": {"BASE": self._base}, "labels": {LABEL + "-image": "1"}}
            self._client.images.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=reference, rm=True, forcerm=True, **options
            )
        return reference

    @contextlib.contextmanager
    def run(self, folder: Path, command: list[str], **options: Any) -> Iterator[Container]:
        """A container that runs `command` on the sources and the packages of `folder`; removed on leaving."""
        container = self._client.containers.create(
            self.image(folder), command, working_dir="/convex", mem_limit="1g", init=True, **options
        )
        try:
            container.put_archive("/convex", packed(CONVEX, SOURCES))
            container.put_archive("/convex", packed(folder, ("tsconfig.json",)))
            container.start()
            yield container
        finally:
            container.remove(force=True)


class Site:
    """The example app's HTTP actions under a fake Convex backend."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.secret = secret
        self._session = requests.Session()
        self._session.trust_env = False

    def control(self, what: str, **body: Any) -> Any:
        """Look inside, or set the scene: see convex/test/server.ts."""
        answer = self._session.post(f"{self.url}/control/{what}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, table: str) -> list[dict[str, Any]]:
        return list(self.control("rows", table=table))

    def job(self) -> dict[str, Any]:
        """The row of the only job there is."""
        (row,) = self.rows("workerJobs")
        return row

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        return self._session.post(self.url + path, data=body, headers=headers, timeout=20)

    def close(self) -> None:
        self._session.close()


def packed(folder: Path, names: tuple[str, ...], texts: dict[str, str] | None = None) -> bytes:
    """A tar file of `names` in `folder` and of `texts`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.add(folder / name, name)
        for name, text in (texts or {}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packages]:
    client = docker.DockerClient(base_url=ENGINE_URL, timeout=300)
    yield Packages(client, Images(tmp_path_factory.mktemp("images")).ensure(client, NODE))
    client.close()


@pytest.fixture(scope="session")
def served(packages: Packages) -> Iterator[Site]:
    secret = webhook.new_secret()
    environment = {
        "PORT": PORT.removesuffix("/tcp"),
        "CHEF_WORKERS_WEBHOOK_SECRET": secret,
        "CHEF_WORKERS_URL": "http://workers.test",
    }
    command = ["npm", "run", "--silent", "serve"]
    with packages.run(CONVEX, command, ports={PORT: ("127.0.0.1", None)}, environment=environment) as container:
        wait_until_ready(container)
        (published,) = container.ports[PORT] or []
        with contextlib.closing(Site(f"http://127.0.0.1:{published['HostPort']}", secret)) as made:
            yield made


@pytest.fixture
def site(served: Site) -> Site:
    """The site with an empty database."""
    served.control("reset")
    return served


def wait_until_ready(container: Container) -> None:
    deadline = time.monotonic() + 60
    while b"ready" not in container.logs():
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Making an image once may take longer than a test may."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
