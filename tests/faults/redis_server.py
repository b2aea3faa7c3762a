"""A Redis server of one test's own that can be killed, started again, and frozen."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

import redis

import machine
from stack import free_port


class RedisServer:
    """Listens on a port of loopback and keeps its append-only file over restarts. Started by start()."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1"]
        server = machine.own_redis(machine.redis_binary(), self._folder, options, self.url)
        self._process = self._running.enter_context(server)

    def kill(self) -> None:
        """As a power cut would; what was answered is on the disk."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._running.close()

    def freeze(self) -> None:
        """Stop answering, with every connection open."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.client.close()
        if self._process and self._process.poll() is None:
            self.thaw()
        self._running.close()
