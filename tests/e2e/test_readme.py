"""The README's request, as a reader copies it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_request_of_the_readme(client: Client) -> None:
    """The curl command answers what the README says, and the job that it makes succeeds with its one file."""
    (command,) = re.findall(r"```\n(curl .*?)\n```", README, re.DOTALL)
    here = command.replace("http://", "").replace("localhost:3001", client.service.url)
    done = subprocess.run(["/bin/sh", "-c", here], capture_output=True, text=True, timeout=30, check=True)
    answer = json.loads(done.stdout)
    record = client.ended(answer["jobId"])

    assert set(answer) == {"jobId", "type", "status", "createdAt"}
    assert record["conclusion"] == "success"
    assert [artifact["path"] for artifact in record["artifacts"]] == ["index.html"]
