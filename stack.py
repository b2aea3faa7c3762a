"""The whole service on this machine: started part by part, stopped in reverse."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

import machine
from config import Settings
from errors import SetupError
from events import DEFAULT_ENDPOINT
from examples import receiver
from executor import Executor
from executor.images import Images
from webhook import new_secret

ROOT = Path(__file__).parent
START_S = 20.0
STOP_EXTRA_S = 5.0


@dataclass
class Stack:
    """A running service: its URL, its processes, and the webhook events that its stand-in receiver accepted."""

    url: str
    redis_url: str
    environment: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise SetupError if a process of the stack has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise SetupError(f"the {name} ended with code {process.returncode}; see its log above")


@contextlib.contextmanager
def running(settings: Settings, say: Callable[[str], None], *, port: int, log: Path | None = None) -> Iterator[Stack]:
    """Bring everything up, yield it, and stop what was started here, data kept.

    `port` 0 takes a free one. The processes write to `log`, or to this terminal. Without a receiver in the settings a
    stand-in for a Convex site is started, which verifies every signature.

    Raises:
        SetupError: A part cannot be had or does not come up; the text says which, why, and what to do.
    """
    data = settings.data_dir
    with contextlib.ExitStack() as parts:
        redis_url, how = parts.enter_context(_redis(settings))
        say(f"Redis: {how}")
        say(f"Docker Engine: {parts.enter_context(machine.docker_engine(settings.docker_host, data, say))}")
        make_images(settings, say)
        port = port or free_port()
        stack = Stack(f"http://127.0.0.1:{port}", redis_url, _environment(settings, redis_url, port))
        if DEFAULT_ENDPOINT not in settings.endpoints:
            parts.enter_context(_stand_in(stack, say))
        sink = parts.enter_context(log.open("ab")) if log else None
        _start(parts, stack, "API", [venv("gunicorn"), "-c", "gunicorn.conf.py", "app:wsgi()"], sink)
        wait_healthy(stack)
        _start(parts, stack, "worker", worker_command(settings), sink)
        say(f"API: {stack.url}, worker: {settings.max_concurrent_workers} jobs at once")
        yield stack


def _redis(settings: Settings) -> contextlib.AbstractContextManager[tuple[str, str]]:
    sync = settings.redis_appendfsync
    return machine.redis_server(settings.configured_redis_url, settings.data_dir / "redis", appendfsync=sync)


def make_images(settings: Settings, say: Callable[[str], None]) -> None:
    """Make sure that all job images are there; the first time this takes a minute or two."""
    with contextlib.closing(Executor(settings.docker_host, Images(settings.data_dir / "images", say=say))) as executor:
        for image in executor.prepare():
            say(f"Image: {image}")


def worker_command(settings: Settings) -> list[str]:
    """The stock Huey command: a thread for each slot, and one for the ordinary tasks when all slots are taken."""
    threads = str(settings.max_concurrent_workers + 1)
    grace = str(settings.shutdown_grace_seconds)
    return [venv("huey_consumer"), "tasks.huey", "-k", "thread", "-w", threads, "-g", "TERM", "-t", grace, "-m", "2"]


def venv(program: str) -> str:
    """Path of a program of our own virtual environment."""
    return str(Path(sys.executable).parent / program)


def wait_healthy(stack: Stack) -> None:
    """Wait until the API says that it is healthy. Raises SetupError after 20 s, or when a process ends."""
    deadline = time.monotonic() + START_S
    answer = "no answer"
    while time.monotonic() < deadline:
        stack.check()
        with contextlib.suppress(requests.RequestException):
            response = requests.get(f"{stack.url}/api/health", timeout=2)
            if response.ok:
                return
            answer = response.text
        time.sleep(0.05)
    raise SetupError(f"the API at {stack.url} is not healthy after {START_S:.0f} s: {answer[:500]}")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _environment(settings: Settings, redis_url: str, port: int) -> dict[str, str]:
    """What the processes of the stack see: this environment, with the addresses that were found."""
    found = {"REDIS_URL": redis_url, "PORT": str(port), "DATA_DIR": str(settings.data_dir.resolve())}
    return {**os.environ, **settings.environment, **found}


@contextlib.contextmanager
def _stand_in(stack: Stack, say: Callable[[str], None]) -> Iterator[None]:
    secret = new_secret()
    with receiver.serve(0, [secret], stack.events.append) as port:
        site = f"http://127.0.0.1:{port}"
        stack.environment |= {"CONVEX_SITE_URL": site, "WEBHOOK_SECRET": secret}
        say(f"Receiver: a stand-in for a Convex site at {site}, verifying signatures")
        yield


def _start(parts: contextlib.ExitStack, stack: Stack, name: str, command: Sequence[str], sink: Any) -> None:
    # A session of its own: Ctrl-C reaches only us, and we stop the parts in order.
    process = subprocess.Popen(
        command, cwd=ROOT, env=stack.environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
    )
    stack.processes[name] = process
    parts.callback(machine.stop_process, process)


def unique_prefix() -> str:
    """A Redis key prefix that nobody else uses, for runs beside a service that is in use."""
    return f"cw-{secrets.token_hex(4)}"
