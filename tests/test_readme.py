"""The commands of the README: each is run by a test, as a reader types it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests.server_cases import ROOT, running_server

README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```\n(.*?)\n```", README, re.DOTALL))
#: How each command begins -> the test that runs it. `make test` is what runs all of them.
RUN_BY = {
    "make demo": "tests/e2e/test_commands.py",
    "make test": "Makefile",
    "curl -s localhost:3001/api/jobs": "tests/e2e/test_readme.py",
    "make secrets compose-images": "tests/e2e/test_compose.py",
    "python cli.py keys create": "tests/test_readme.py",
    'curl -H "Authorization: Bearer cw_…"': "tests/test_readme.py",
}


def command(begins: str) -> str:
    """The line of the README that begins so."""
    return next(line for line in BLOCKS.split("\n") if line.startswith(begins))


def test_every_command_is_run() -> None:
    """No command stands in the README that no test runs."""
    commands = [line for line in BLOCKS.split("\n") if re.match(r"(make|curl|python|docker|deploy|pip|npm)\b", line)]

    assert len(commands) == len(RUN_BY)
    assert all(any(line.startswith(begins) for begins in RUN_BY) for line in commands)
    assert all((ROOT / Path(test)).exists() for test in RUN_BY.values())


def test_a_key_and_a_request_with_it() -> None:
    """The key that the README makes opens the service, which is closed to everybody else from then on."""
    with running_server("app:wsgi()") as server:
        create = shlex.split(command("python cli.py keys create"))[1:]
        environment = {**os.environ, "REDIS_URL": server.redis_url, "DATA_DIR": str(server.folder / "data")}  # noqa: TID251
        told = subprocess.run(
            [sys.executable, *create], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        (token,) = re.findall(r"cw_\w+", told)
        body = '{"type": "build", "data": {"projectFiles": {"package.json": "{}"}}}'
        made = server.ask("POST", "/api/jobs", body, {"Authorization": f"Bearer {token}"})
        line = command("curl -H").replace("cw_…", token).replace("http://…", f"http://127.0.0.1:{server.port}")
        asked = ["/bin/sh", "-c", line.replace(":id", made.json["jobId"]) + " -s -w '%{http_code}' -o /dev/null"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
        deadline = time.monotonic() + 5  # a process knows of a first key within a second
        while (locked := server.ask("GET", "/api/jobs").status) != 401 and time.monotonic() < deadline:
            time.sleep(0.1)

    assert made.status == 201
    assert answer == "200"
    assert locked == 401
