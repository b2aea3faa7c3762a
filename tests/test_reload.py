"""SIGHUP to a real gunicorn: new settings and a new release are taken up without a failed request, mistakes are not."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import config
from errors import SetupError
from tests import server_cases
from tests.server_cases import ROOT, Server, running_server

LEFT_OUT = shutil.ignore_patterns(
    ".*", "node_modules", "__pycache__", "tests", "docs", "bench", "convex", "examples/*/*"
)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "settings"
    file.write_text("MAX_FILES=1\n")
    return file


@pytest.fixture
def server(settings_file: Path) -> Iterator[Server]:
    with running_server("app:wsgi()", SETTINGS_FILE=str(settings_file)) as running:
        yield running


def hang_up(server: Server) -> None:
    assert server.process
    server.process.send_signal(signal.SIGHUP)


def log(server: Server) -> str:
    return (server.folder / "gunicorn.log").read_text()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def files_taken(server: Server) -> bool:
    """Whether a project of two files is taken."""
    body = {"type": "build", "data": {"projectFiles": {"package.json": "{}", "index.html": ""}}}
    return server.ask("POST", "/api/jobs", json.dumps(body), {"Content-Type": "application/json"}).status == 201


@contextlib.contextmanager
def callers(server: Server, failures: list[str]) -> Iterator[None]:
    """Three that ask without a pause, each request on a connection of its own."""
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                if (status := server.ask("GET", "/api/jobs").status) != 200:
                    failures.append(str(status))
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_new_settings(server: Server, settings_file: Path) -> None:
    """What the file says now holds after SIGHUP, and no request fails meanwhile."""
    failures: list[str] = []
    assert not files_taken(server)
    with callers(server, failures):
        settings_file.write_text("MAX_FILES=2\n")
        hang_up(server)
        until(lambda: all(files_taken(server) for _ in range(8)), "new settings in all processes")

    assert failures == []


def test_mistakes_change_nothing(server: Server, settings_file: Path) -> None:
    """Settings with a mistake are named in the log, and the processes that serve go on; mended, they are taken up."""
    settings_file.write_text("MAX_FILES=many\n")
    hang_up(server)
    until(lambda: "Not reloaded" in log(server), "a refusal")

    assert "MAX_FILES" in log(server)
    assert server.ask("GET", "/api/health").status == 200
    assert log(server).count("Booting worker") == 2
    settings_file.write_text("MAX_FILES=2\n")
    hang_up(server)
    until(lambda: all(files_taken(server) for _ in range(8)), "new settings in all processes")


def test_a_door_without_a_lock(server: Server, settings_file: Path) -> None:
    """What a starting process would refuse to serve is refused here too, not by the end of those that serve."""
    settings_file.write_text("PUBLISH=0.0.0.0:3001\n")
    hang_up(server)
    until(lambda: "Not reloaded" in log(server), "a refusal")

    assert "there are no API keys" in log(server)
    assert server.ask("GET", "/api/health").status == 200


def test_a_new_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New code is loaded whole, also what gunicorn's first process had loaded; code that cannot be loaded is not."""
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=LEFT_OUT)
    monkeypatch.setattr(server_cases, "ROOT", project)
    with running_server("app:wsgi()", PYTHONPATH=str(project)) as server:
        version = server.ask("GET", "/").json["version"]
        app, settings = project / "app.py", project / "config.py"
        whole = app.read_text()
        app.write_text(whole + "\nimport not_in_this_release\n")
        hang_up(server)
        until(lambda: "Not reloaded" in log(server), "a refusal")
        assert server.ask("GET", "/").json["version"] == version

        app.write_text(whole.replace("from config import VERSION,", "from config import NEWEST as VERSION,"))
        settings.write_text(settings.read_text() + '\nNEWEST = "99.1.2"\n')
        hang_up(server)
        until(lambda: "99.1.2" in {server.ask("GET", "/metrics").body.decode().split('version="')[1][:6]}, "a release")

        assert "Traceback" not in log(server).partition("not_in_this_release")[2].partition("Hang up")[2]


def test_a_settings_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a mistake, and not silently the defaults."""
    monkeypatch.setitem(os.environ, "SETTINGS_FILE", str(tmp_path / "none"))  # noqa: TID251
    with pytest.raises(SetupError, match="SETTINGS_FILE: there is no such file"):
        config.load()
