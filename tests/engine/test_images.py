"""The job images, at a real engine."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from errors import ImageUnavailable
from executor import images as module
from executor.images import CA_BUNDLES, IMAGE_NAMES, NODE, PYTHON, SOURCES, Images, Source

pytestmark = pytest.mark.engine


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    """A CA bundle that no image was made with yet."""
    path = tmp_path / "bundle.crt"
    path.write_text(f"# {time.time_ns()}\n" + next(path for path in CA_BUNDLES if path.exists()).read_text())
    return path


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_found_at_once(client: docker.DockerClient, images: Images, tmp_path: Path, name: str) -> None:
    """An image that is there is found without a build, also by another process."""
    said: list[str] = []
    began = time.monotonic()

    reference = Images(tmp_path / "elsewhere", say=said.append).ensure(client, name)

    assert (reference, said) == (images.ensure(client, name), [])
    assert time.monotonic() - began < 1


def test_tools(client: docker.DockerClient, images: Images) -> None:
    """The Node image has Node 24 and every package manager; each works for a user that may write nothing but /work."""
    script = "node -v; npm -v; pnpm -v; yarn -v; /opt/yarn-berry/bin/yarn -v; bun -v; stat -c %a /work; id -un"
    reference = images.ensure(client, NODE)

    said = client.containers.run(
        reference, ["sh", "-c", script], user="20255:20255", environment={"HOME": "/tmp"}, remove=True,
        read_only=True, network_mode="none", tmpfs={"/tmp": ""},
    )  # fmt: skip

    node, npm, pnpm, yarn, berry, bun, mode, user = said.decode().split()
    assert node.startswith("v24.")
    assert int(npm.split(".")[0]) >= 10
    assert (pnpm.split(".")[0], yarn.split(".")[0], berry.split(".")[0], bun.split(".")[0]) == ("10", "1", "4", "1")
    assert (mode, user) == ("1777", "job255")


def test_trust(client: docker.DockerClient, images: Images) -> None:
    """Containers trust what this machine trusts."""
    bundle = next(path for path in CA_BUNDLES if path.exists()).read_bytes()
    # A digest rather than the bundle: a quarter of a megabyte may still be on its way when the engine says "ended".
    command = ["sha256sum", "/etc/ssl/certs/ca-certificates.crt"]

    for name in IMAGE_NAMES:
        said = client.containers.run(images.ensure(client, name), command, remove=True, network_mode="none")
        assert said.split()[0].decode() == hashlib.sha256(bundle).hexdigest()


def test_change_makes_a_new_image(other_bundle: Path, tmp_path: Path) -> None:
    """What goes into an image decides its name: the CA bundle, the registry, the base."""
    plain = Images(tmp_path, registry="")
    names = {
        plain.reference(PYTHON, official=True),
        plain.reference(PYTHON, official=False),
        plain.reference(NODE, official=True),
        Images(tmp_path, registry="http://registry.test").reference(PYTHON, official=True),
        Images(tmp_path, registry="", ca_bundle=other_bundle).reference(PYTHON, official=True),
    }

    assert len(names) == 5


def test_built_once(client: docker.DockerClient, other_bundle: Path, tmp_path: Path) -> None:
    """Of several that need a missing image at the same time, one builds it and all get it."""
    said: list[str] = []

    def ensure(_: int) -> str:
        return Images(tmp_path, say=said.append, ca_bundle=other_bundle).ensure(client, PYTHON)

    with ThreadPoolExecutor(3) as pool:
        references = set(pool.map(ensure, range(3)))

    assert len(references) == 1
    assert len([line for line in said if line.startswith("building")]) == 1
    client.images.remove(references.pop())


def test_failing_build(client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails says so with its last lines."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("ARG BASE\nFROM ${BASE}\nRUN echo last words; exit 3\n")
    monkeypatch.setitem(SOURCES, "broken", Source(dockerfile, SOURCES[PYTHON].official_base))

    with pytest.raises(ImageUnavailable, match=r"(?s)non-zero code: 3.*last words"):
        Images(tmp_path / "work").ensure(client, "broken")


def test_no_base(client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no base can be pulled and only root could make one, the text has the command to type."""
    monkeypatch.setitem(SOURCES, "unknown", Source(SOURCES[PYTHON].dockerfile, "registry.invalid/none:1"))
    monkeypatch.setattr(module, "DEBIAN_PACKAGES", "none")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    began = time.monotonic()

    with pytest.raises(ImageUnavailable, match="run `docker pull "):
        Images(tmp_path / "work").ensure(client, "unknown")

    assert time.monotonic() - began < 15
