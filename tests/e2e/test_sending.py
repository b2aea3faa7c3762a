"""Every way to send a project, through the running service to a finished build."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.archives import nodes, snapshot, tar_gz, zipped
from tests.e2e.conftest import Client, example

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 120
#: A busy machine takes its time.
PATIENT = {"commandTimeoutMs": 120_000}
SHOW = {
    "package.json": b'{"scripts":{"build":"mkdir dist && cp a.txt logo.png dist"}}',
    "a.txt": b"a",
    "logo.png": PICTURE,
}


def put(client: Client, archive: Any) -> dict[str, Any]:
    """The answer to an upload."""
    answer = requests.put(f"{client.service.url}/api/uploads", data=archive, timeout=30)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def post(client: Client, **data: Any) -> str:
    """Submit a job; its id."""
    body = {"type": "build", "data": data, "limits": PATIENT}
    answer = requests.post(f"{client.service.url}/api/jobs", json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobId"])


def chef_project() -> dict[str, bytes]:
    """What Chef's template is like: Vite, React, TypeScript, a lockfile, generated code, and a picture."""
    files = {path: text.encode() for path, text in example("react-app").items()}
    files["convex/_generated/api.js"] = b"export const api = {};\n"
    files["public/logo.png"] = PICTURE
    return files


def test_snapshot_then_what_was_built(client: Client) -> None:
    """A Chef snapshot is uploaded and built, picture and all; then a test job looks at what that build made."""
    kept = put(client, snapshot(nodes(chef_project())))
    built = client.ended(post(client, uploadId=kept["uploadId"]), 200)
    assert built["conclusion"] == "success", built["message"]
    assert client.get(f"{built['jobId']}/artifacts/logo.png").content == PICTURE

    command = "grep -q assets/ dist/index.html && cmp dist/logo.png public/logo.png"
    data = {"fromJob": built["jobId"], "testCommand": command}
    body = {"type": "test", "data": data, "limits": PATIENT}
    answer = requests.post(f"{client.service.url}/api/jobs", json=body, timeout=30)
    tested = client.ended(answer.json()["jobId"])

    assert tested["conclusion"] == "success", tested["message"]


def test_upload_in_chunks(client: Client) -> None:
    """An archive may arrive in chunks, its length unknown, as from a pipe."""
    archive = tar_gz(SHOW)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(archive), 1000):
            yield archive[start : start + 1000]

    record = client.ended(post(client, uploadId=put(client, chunks())["uploadId"]))

    assert record["conclusion"] == "success", record["message"]
    assert client.get(f"{record['jobId']}/artifacts/logo.png").content == PICTURE


def test_form(client: Client) -> None:
    """A form carries job and archive in one request; the artifacts come back as a zip."""
    job = {"type": "build", "data": {"artifacts": ["dist/*.png"]}, "limits": PATIENT}
    parts: dict[str, Any] = {"job": (None, json.dumps(job)), "project": ("p.zip", zipped(SHOW))}
    answer = requests.post(f"{client.service.url}/api/jobs", files=parts, timeout=30)
    assert answer.status_code == 201, answer.text

    record = client.ended(answer.json()["jobId"])

    assert [each["path"] for each in record["artifacts"]] == ["dist/logo.png"]
    assert client.get(f"{record['jobId']}/artifacts.zip").content.startswith(b"PK\3\4")


def test_mistakes_at_once(client: Client) -> None:
    """A bad archive is answered before any job is there, by its entry."""
    answer = requests.put(f"{client.service.url}/api/uploads", data=tar_gz({"../x": b""}), timeout=30)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "#/..~1x"


def test_bundle_runs(client: Client, tmp_path: Path) -> None:
    """What the service gives to take home runs as it is, and ends as the job did."""
    files = {"package.json": '{"scripts":{"build":"echo $WORD; test $WORD = right"}}'}
    record = client.ended(post(client, projectFiles=files, env={"WORD": "wrong"}))
    bundle = client.get(f"{record['jobId']}/bundle").content
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        archive.extractall(tmp_path, filter="data")

    ended = {}
    for word in ("wrong", "right"):
        environment = {**os.environ, "WORD": word}  # noqa: TID251  (tests may ask)
        script = tmp_path / record["jobId"] / "run.sh"
        done = subprocess.run([script], check=False, capture_output=True, text=True, timeout=120, env=environment)
        ended[word] = (done.returncode, done.stdout.strip().rpartition("\n")[2])

    assert record["conclusion"] == "failure"
    assert ended["wrong"] == (record["result"]["exitCode"], "conclusion: failure (exit code 1)")
    assert ended["right"] == (0, "conclusion: success (exit code 0)")
