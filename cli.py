"""The command line: what `make` calls."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import config
import demo
import doctor
import machine
import secret_settings
import stack
from api import keys, reference
from app import routes
from artifacts import Shelf
from config import Settings
from errors import ChefError
from executor import Executor
from executor.images import Images
from store import Store


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a failure of what was run, 2 a mistake in settings or set-up."""
    parser = argparse.ArgumentParser(prog="cli.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, text) in COMMANDS.items():
        commands.add_parser(name, help=text).set_defaults(command=command)
    manage = commands.add_parser("keys", help="create, list and revoke API keys")
    keys.add_arguments(manage)
    manage.set_defaults(command=lambda settings: manage_keys(settings, chosen))
    chosen: argparse.Namespace = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code: int = chosen.command(config.load())
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except ChefError as error:
        print(f"\nFailed: {error}", file=sys.stderr)
        return 2
    return code


def run_demo(settings: Settings) -> int:
    """Bring everything up on free ports, build the example, take everything down."""
    started = time.monotonic()
    # Nobody would use what a service that is gone has kept for later jobs.
    alone = {"redis_prefix": stack.unique_prefix(), "host": "127.0.0.1", "dependency_cache_bytes": 0}
    beside = settings.model_copy(update=alone)
    log = settings.data_dir / "demo.log"
    with stack.running(beside, say, port=0, log=log) as service:
        print(f"Logs of API and worker: {log}\nReady after {time.monotonic() - started:.1f} s\n")
        code = demo.build_example(service)
    print(f"\nAll that was started is stopped; {time.monotonic() - started:.1f} s in all.")
    return code


def serve(settings: Settings) -> int:
    """Serve until Ctrl-C, or until a part ends."""
    with contextlib.suppress(KeyboardInterrupt), stack.running(settings, say, port=settings.port) as service:
        print(f"Serving on {service.url}, Ctrl-C stops. Try: curl {service.url}/api/health", flush=True)
        while True:
            service.check()
            time.sleep(0.5)
    print("\nstopped")
    return 0


def make_images(settings: Settings) -> int:
    """Make the job images if they are not there."""
    with machine.docker_engine(settings.docker_host, settings.data_dir, say):
        stack.make_images(settings, say)
    return 0


def show_base(settings: Settings) -> int:
    """Print the image that the service's own image is built on; the job images are there then."""
    with contextlib.closing(Executor(settings.docker_host, Images(settings.data_dir / "images"))) as executor:
        print(executor.base())
    return 0


def work(settings: Settings) -> int:
    """Become a worker: huey_consumer, with threads and grace from the settings."""
    command = stack.worker_command(settings)
    os.execv(command[0], command)  # noqa: S606  (a program of our own environment, with arguments of our own)


def worker_health(settings: Settings) -> int:
    """Look for a worker of this machine among those that give signs of life; 0 if there is one."""
    with contextlib.closing(Store(settings.redis_url, prefix=settings.redis_prefix, timeout_s=3)) as store:
        mine = [worker for worker in store.workers() if worker.name.partition(":")[0] == socket.gethostname()]
    print(*(worker.name for worker in mine) if mine else ["none"])
    return 0 if mine else 1


def monitor(settings: Settings) -> int:
    """Print what Redis does until Ctrl-C; long texts (projects, scripts) are cut."""
    with contextlib.closing(Store(settings.redis_url, prefix=settings.redis_prefix)) as store:
        for moment, command in store.commands():
            print(f"{moment:.6f} {command[:200]}", flush=True)
    return 0


def make_secrets(settings: Settings) -> int:
    """Write what .env lacks and nobody should think up, for docker-compose; what it has stays."""
    added = secret_settings.complete(Path(".env"), Path("/var/run/docker.sock"))
    print(f"  .env: {', '.join(added)} added" if added else "  .env has all secrets")
    return 0


def examine(settings: Settings) -> int:
    """Say what this host lacks."""
    return doctor.report(settings, print)


def show_config(settings: Settings) -> int:
    """Print the settings in effect; secrets are masked by their type."""
    for name, value in sorted(settings.model_dump().items()):
        print(f"{name.upper()}={value}")
    return 0


def manage_keys(settings: Settings, chosen: argparse.Namespace) -> int:
    """Create, list or revoke API keys in the Redis of the service, which is started for it if need be."""
    folder, sync = settings.data_dir / "redis", settings.redis_appendfsync
    with contextlib.ExitStack() as parts:
        url, _ = parts.enter_context(machine.redis_server(settings.configured_redis_url, folder, appendfsync=sync))
        store = parts.enter_context(contextlib.closing(Store(url, prefix=settings.redis_prefix)))
        keys.run_command(store, chosen, print)
    return 0


def print_reference(_: Settings) -> int:
    """Print docs/api.md: the API of a service with the usual settings."""
    print(reference.markdown(usual_description()), end="")
    return 0


def print_openapi(_: Settings) -> int:
    """Print the description that clients are made from."""
    print(json.dumps(usual_description(), indent=2))
    return 0


def usual_description() -> dict[str, Any]:
    """The API of a service with the usual settings; nothing is opened."""
    settings = config.load({})
    store = Store(settings.redis_url)
    return routes(settings, store, Shelf(settings.data_dir), store.submit).description


def say(text: str) -> None:
    """One line about the set-up."""
    print(f"  {text}", flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


COMMANDS: dict[str, tuple[Callable[[Settings], int], str]] = {
    "demo": (run_demo, "build examples/react-app through the service and show it live"),
    "run": (serve, "serve until Ctrl-C"),
    "images": (make_images, "make the job images"),
    "reference": (print_reference, "print docs/api.md"),
    "openapi": (print_openapi, "print the description of the API"),
    "base": (show_base, "print the image that the service's own image is built on"),
    "worker": (work, "run jobs until SIGTERM"),
    "worker-health": (worker_health, "whether a worker of this machine lives"),
    "mon": (monitor, "print what Redis is doing"),
    "secrets": (make_secrets, "write the secrets that .env lacks"),
    "doctor": (examine, "say what this host lacks, and the fix"),
    "config": (show_config, "print the settings in effect, secrets hidden"),
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
