"""A running API of the tests' own: gunicorn over real sockets, with a Redis that can be stopped, frozen and started."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).parent.parent


@dataclass
class Server:
    """A running gunicorn with a Redis of its own that can be stopped, frozen and started."""

    port: int
    folder: Path
    redis: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    redis_process: subprocess.Popen[bytes] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def redis_url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start_redis(self) -> None:
        options = ["--port", "0", "--unixsocket", f"{self.folder}/redis.sock"]
        own = machine.own_redis(machine.redis_binary(), self.folder, options, self.redis_url)
        self.redis_process = self.redis.enter_context(own)

    def stop_redis(self) -> None:
        self.redis.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            return answer_of(connection.getresponse(), began)
        finally:
            connection.close()

    def send(self, request: bytes) -> Answer:
        """Send these very bytes, and read one answer."""
        began = time.monotonic()
        with self.connect() as connection:
            connection.sendall(request)
            return receive(connection, began)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def answer_of(response: http.client.HTTPResponse, began: float) -> Answer:
    body = response.read()
    return Answer(response.status, dict(response.getheaders()), body, time.monotonic() - began)


def receive(connection: socket.socket, began: float) -> Answer:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return answer_of(response, began)


@contextlib.contextmanager
def running_server(app: str = "tests.serving:wsgi()", **settings: str) -> Iterator[Server]:
    """A server with these settings; it has gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="cw-api-") as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        running = Server(probe.getsockname()[1], Path(folder))
        probe.close()
        running.start_redis()
        process = start_gunicorn(running, app, settings)
        running.process = process
        try:
            yield running
        finally:
            machine.stop_process(process)
            running.stop_redis()


def start_gunicorn(running: Server, app: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    environment = {
        "LOG_FORMAT": "json",
        **os.environ,  # noqa: TID251  (what a child process needs)
        "REDIS_URL": running.redis_url,
        "HOST": "127.0.0.1",
        "PORT": str(running.port),
        "DATA_DIR": str(running.folder / "data"),
        "MAX_PROJECT_BYTES": "80k",
        "MAX_BODY_BYTES": "100k",
        "SAME_REQUEST_IS_SAME_JOB": "false",  # the tests post one body many times
        **settings,
    }
    log = running.folder / "gunicorn.log"
    command = [str(Path(sys.executable).parent / "gunicorn"), "-c", "gunicorn.conf.py", app]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    machine.wait_until(lambda: answers(running), process, "gunicorn", log)
    return process


def answers(running: Server) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return running.ask("GET", "/api/health").status == 200
    return False


def until_healthy(running: Server) -> None:
    deadline = time.monotonic() + 5
    while not answers(running):
        assert time.monotonic() < deadline, "the API did not recover within 5 s"
        time.sleep(0.02)
