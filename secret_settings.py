"""The secrets of .env that nobody should think up: made once, never changed, readable by their owner alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from webhook import new_secret


def complete(file: Path, docker_socket: Path) -> list[str]:
    """Append what is missing to `file`, with mode 600; answer the names of what was added.

    A variable that is there but empty, or commented out, counts as missing. DOCKER_GID is the group of
    `docker_socket`: no secret, but as impossible to have a default for.

    Raises:
        OSError: The file cannot be written.
    """
    makers: dict[str, Callable[[], str]] = {
        "REDIS_PASSWORD": lambda: secrets.token_urlsafe(32),
        "WEBHOOK_SECRET": new_secret,
        "DOCKER_GID": lambda: str(docker_socket.stat().st_gid if docker_socket.exists() else 0),
    }
    text = file.read_text() if file.exists() else ""
    there = {line.partition("=")[0].strip() for line in text.splitlines() if line.partition("=")[2].strip()}
    missing = {name: make() for name, make in makers.items() if name not in there}
    file.touch(mode=0o600, exist_ok=True)
    file.chmod(0o600)
    with file.open("a") as end:
        if text and not text.endswith("\n"):
            end.write("\n")
        end.writelines(f"{name}={value}\n" for name, value in missing.items())
    return list(missing)
