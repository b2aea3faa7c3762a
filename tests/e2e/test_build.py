"""Whole builds over HTTP: real Redis, real Docker, real npm."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile

import pytest

from tests.e2e.conftest import COMMAND_TIMEOUT_S, Client, example

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def script(build: str, **extra: str) -> dict[str, str]:
    """A project without dependencies whose build is one script."""
    return {"package.json": json.dumps({"scripts": {"build": "node build.mjs"}}), "build.mjs": build, **extra}


def test_good_build(client: Client) -> None:
    """The example builds; every file that its page loads can be downloaded whole, and the webhook says the same."""
    job_id = client.submit(example("react-app"))
    record = client.ended(job_id)

    assert (record["status"], record["conclusion"], record["reason"]) == ("completed", "success", None), record
    assert record["progress"] == 100
    assert [phase["name"] for phase in record["result"]["phases"]] == [
        "preparing",
        "installing",
        "building",
        "collecting",
    ]
    artifacts = {artifact["path"]: artifact for artifact in record["artifacts"]}
    page = client.get(f"{job_id}/artifacts/index.html").text
    loaded = [path.lstrip("/") for path in re.findall(r'(?:src|href)="(/[^"]+)"', page)]
    assert len(loaded) >= 3
    for path in loaded:
        content = client.get(f"{job_id}/artifacts/{path}").content
        assert len(content) == artifacts[path]["size"]
        assert hashlib.sha256(content).hexdigest() == artifacts[path]["sha256"]
    assert "Kitchen timer" in client.get(f"{job_id}/artifacts/{next(p for p in loaded if p.endswith('.js'))}").text
    packed = client.get(f"{job_id}/artifacts.tar.gz").content
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {member.name: member.size for member in archive} == {p: a["size"] for p, a in artifacts.items()}
    (event,) = client.webhooks(job_id)
    assert event["body"]["conclusion"] == "success"
    assert {a["path"]: a["sha256"] for a in event["body"]["artifacts"]} == {
        p: a["sha256"] for p, a in artifacts.items()
    }


def test_log_has_every_phase(client: Client) -> None:
    """The log can be read from any line, tells phase and stream of each, and ends with what the tool printed last."""
    job_id = client.submit(script("console.log('to out'); console.error('to err')"))
    client.ended(job_id)

    entries = [json.loads(line) for line in client.get(f"{job_id}/logs?format=ndjson").text.splitlines()]
    assert [entry["line"] for entry in entries] == list(range(len(entries)))
    said = {(entry["phase"], entry["stream"], entry["text"]) for entry in entries}
    assert {("building", "stdout", "to out"), ("building", "stderr", "to err")} <= said
    whole = client.get(f"{job_id}/logs").text.splitlines()
    assert client.get(f"{job_id}/logs?offset=2").text.splitlines() == whole[2:]


def test_type_error(client: Client) -> None:
    """A TypeScript error fails the job as build_failed, and the message shows the compiler's own words."""
    files = example("react-app")
    files["src/App.tsx"] = files["src/App.tsx"].replace("useState<", "useState<number & ")

    record = client.run(files)

    assert (record["status"], record["conclusion"], record["reason"]) == ("failed", "failure", "build_failed")
    assert re.search(r"src/App\.tsx\(\d+,\d+\): error TS\d+", record["message"]), record["message"]
    assert record["result"]["exitCode"] != 0
    assert "npm run build" in record["result"]["command"]
    assert record["attempt"] == 1


def test_unknown_dependency(client: Client) -> None:
    """A dependency that does not exist fails the job as install_failed and is named."""
    record = client.run(script("1"), dependencies={"this-package-does-not-exist-3f9a": "1.0.0"})

    assert (record["status"], record["reason"]) == ("failed", "install_failed")
    assert "this-package-does-not-exist-3f9a" in record["message"]
    assert record["attempt"] == 1


def test_endless_build(client: Client) -> None:
    """A build that never ends is killed at its limit and told apart from a failing one."""
    record = client.run(script("setInterval(() => {}, 1000)"))

    assert (record["status"], record["conclusion"], record["reason"]) == ("failed", "timeout", "timeout")
    assert str(COMMAND_TIMEOUT_S) in record["message"]
    building = [phase for phase in record["result"]["phases"] if phase["name"] == "building"]
    assert COMMAND_TIMEOUT_S <= building[0]["durationMs"] / 1000 < COMMAND_TIMEOUT_S + 5


def test_memory_eater(client: Client) -> None:
    """A build that takes more memory than it may have is reported as out of memory, not as a failing build."""
    record = client.run(script("const kept = []; for (;;) kept.push(Buffer.alloc(16 << 20, 1))"))

    assert (record["status"], record["conclusion"], record["reason"]) == ("failed", "oom", "out_of_memory")


def test_flood_of_output(client: Client) -> None:
    """100 MB of output are cut to head and tail with the exact count of what is missing, and the build succeeds."""
    line = "x" * 99
    build = (
        "import fs from 'node:fs';"
        f"const block = ('{line}\\n').repeat(1000);"
        "for (let i = 0; i < 1000; i++) fs.writeSync(1, block);"
        "fs.mkdirSync('dist'); fs.writeFileSync('dist/done.txt', 'done')"
    )
    job_id = client.submit(script(build))
    record = client.ended(job_id)

    assert record["conclusion"] == "success", record
    entries = [json.loads(text) for text in client.get(f"{job_id}/logs?format=ndjson").text.splitlines()]
    kept = sum(1 for entry in entries if entry.get("text") == line)
    (gap,) = [entry["dropped"] for entry in entries if "dropped" in entry]
    assert kept + gap["lines"] == 1_000_000
    assert gap["bytes"] == gap["lines"] * 100
    assert kept * 100 + 4096 >= 4 << 20
    assert kept * 100 <= (5 << 20) + 4096


def test_zero_dependencies(client: Client) -> None:
    """A project without dependencies skips the installation and still gives its files back."""
    build = "import fs from 'node:fs'; fs.mkdirSync('build'); fs.writeFileSync('build/a.txt', 'ä\\n')"

    job_id = client.submit(script(build))
    record = client.ended(job_id)

    assert record["conclusion"] == "success", record
    assert "installing" not in [phase["name"] for phase in record["result"]["phases"]]
    assert [(a["path"], a["size"]) for a in record["artifacts"]] == [("a.txt", 3)]
    assert client.get(f"{job_id}/artifacts/a.txt").content == "ä\n".encode()


def test_original_clients_request(client: Client) -> None:
    """What the original client posts works unchanged: nested dependencies, a strategy, polling to `completed`."""
    files = {"index.html": '<script type="module" src="/main.js"></script>', "main.js": "console.log('hi')"}
    nested: dict[str, dict[str, str]] = {"dependencies": {}, "devDependencies": {}, "peerDependencies": {}}

    record = client.run(files, dependencies=nested, strategy="docker")

    assert record["status"] == "completed", record
    assert "index.html" in [artifact["path"] for artifact in record["artifacts"]]
