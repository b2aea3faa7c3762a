"""Limits that the kernel or the keeper holds, and the figures that the record shows of them."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from executor import Executor, Wish
from executor.images import Images
from jobs import Conclusion, Reason
from tests.engine_cases import ENGINE_URL, SERVICE, Bench, Recorder

pytestmark = pytest.mark.engine

DISK = {"disk_bytes": 64 << 20}
#: Writes for ever what `block` says; tells the error that it ends with, and ends with it.
WRITER = """
import fs from "node:fs"
let at = 0
try { for (;;) { BODY; at++ } } catch (error) { console.log("refused", error.code); process.exit(7) }
"""
BYTES = WRITER.replace("BODY", "fs.writeFileSync(`f${at}`, Buffer.alloc(4 << 20, 1))")
FILES = WRITER.replace("BODY", "fs.writeFileSync(`f${at}`, '')")
#: The file is gone at once, its bytes are not.
HIDDEN = (
    WRITER.replace("BODY", "fs.writeSync(hidden, Buffer.alloc(4 << 20, 1))")
    .replace("let at", "const hidden = fs.openSync('f', 'w'); fs.unlinkSync('f'); let at")
    .replace("process.exit(7)", "setTimeout(() => process.exit(7), 500)")
)


@pytest.fixture
def on(images: Images, client: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench whose workspaces are where the parameter says."""
    executor = Executor(ENGINE_URL, images, service=SERVICE, wish=Wish(workspace=request.param))
    bench = Bench(executor, client)
    yield bench
    executor.close()
    assert bench.left_over() == []


@pytest.mark.parametrize("on", ["memory", "disk"], indirect=True)
@pytest.mark.parametrize("source", [BYTES, FILES], ids=["bytes", "files"])
def test_full_workspace(on: Bench, source: str) -> None:
    """A job that fills its workspace with bytes or files ends as disk_full, wherever the workspace is."""
    result = on.script(source, limits={**DISK, "command_s": 45.0})

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.DISK_FULL), result.message
    usage = result.detail["usage"]
    assert max(usage["diskPeakBytes"] / (64 << 20), usage["diskPeakFiles"] / (64 << 8)) >= 0.98
    assert "limits.diskBytes" in usage["advice"]


@pytest.mark.parametrize("on", ["disk"], indirect=True)
def test_closed_folder(on: Bench) -> None:
    """On disk, bytes in a folder that nobody may open cannot be measured: a job that keeps one closed is ended."""
    source = """
        import fs from "node:fs"
        fs.mkdirSync("d"); process.chdir("d"); const file = fs.openSync("f", "w"); fs.chmodSync(".", 0)
        for (let n = 0; n < 50; n++) fs.writeSync(file, Buffer.alloc(4 << 20, 1))
        setTimeout(() => {}, 20000)
    """

    result = on.script(source, limits={**DISK, "command_s": 45.0})

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.DISK_FULL), result.message
    assert "cannot be opened" in result.message


@pytest.mark.parametrize("on", ["disk"], indirect=True)
def test_folder_that_was_closed(on: Bench) -> None:
    """A folder that is closed for a moment, as tests of file rights do, is no reason to end a job."""
    source = """
        import fs from "node:fs"
        fs.mkdirSync("d"); fs.chmodSync("d", 0)
        setTimeout(() => fs.chmodSync("d", 0o755), 1200); setTimeout(() => {}, 4000)
    """

    assert on.script(source, limits=DISK).conclusion is Conclusion.SUCCESS


@pytest.mark.parametrize("on", ["memory"], indirect=True)
def test_hidden_bytes(on: Bench) -> None:
    """In memory, bytes of a file that nobody can see any more count as well."""
    watch = Recorder()

    result = on.script(HIDDEN, limits=DISK, watch=watch)

    assert result.reason is Reason.DISK_FULL
    assert "refused ENOSPC" in watch.text("stdout")


@pytest.mark.parametrize("on", ["memory"], indirect=True)
def test_room_of_its_own(on: Bench) -> None:
    """What a workspace in memory holds is not taken from its job's memory."""
    source = """
        import fs from "node:fs"
        for (let at = 0; at < 40; at++) fs.writeFileSync(`f${at}`, Buffer.alloc(4 << 20, 1))
        const kept = []; for (let at = 0; at < 8; at++) kept.push(Buffer.alloc(16 << 20, 1))
        await new Promise((done) => setTimeout(done, 300))
    """

    result = on.script(source, limits={"memory_bytes": 256 << 20, "disk_bytes": 200 << 20})

    assert result.conclusion is Conclusion.SUCCESS, result.message
    usage = result.detail["usage"]
    assert usage["diskPeakBytes"] > 160 << 20
    assert 128 << 20 < usage["memoryPeakBytes"] < 256 << 20


def test_evidence(bench: Bench) -> None:
    """The record shows what a job used, by the kernel's word, with the limits beside it."""
    source = """
        import { spawn } from "node:child_process"
        const children = Array.from({ length: 5 }, () => spawn("sleep", ["1.5"]))
        const end = Date.now() + 1500
        while (Date.now() < end);
        children.forEach((child) => child.kill())
    """

    result = bench.script(source, limits={"cpus": 0.2, "pids": 64})

    usage = result.detail["usage"]
    assert 0.2 < usage["cpuSeconds"] < usage["wallSeconds"] * 0.25 + 0.3
    # A machine so busy that it gives less than the limit need not hold anything back.
    assert usage["throttledSeconds"] > 0 or usage["cpuSeconds"] / usage["wallSeconds"] < 0.15
    assert 15 < usage["processesPeak"] <= 64
    assert 20 << 20 < usage["memoryPeakBytes"] < 400 << 20
    assert 1.5 < usage["wallSeconds"] < 40
    assert (usage["cpuLimit"], usage["processesLimit"]) == (0.2, 64)
    assert (usage["networkReceivedBytes"], usage["networkSentBytes"]) == (0, 0)
    assert "egress" not in result.detail


def test_evidence_of_an_install(bench: Bench) -> None:
    """An install's network bytes are counted, and the hosts that it asked for are listed."""
    result = bench.run({"package.json": '{"dependencies":{"picocolors":"1.1.1"}}'}, command="true")

    assert result.detail["usage"]["networkReceivedBytes"] > 1_000
    assert result.detail["usage"]["networkSentBytes"] > 100
    assert [count > 0 for count in result.detail["egress"].values()] == [True]


def test_output_limit(bench: Bench) -> None:
    """A job that prints more than its limit is ended, and the message says so."""
    result = bench.run({"package.json": "{}"}, command="yes", limits={"output_bytes": 1 << 20})

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.OUTPUT_LIMIT)
    assert "1,048,576 bytes" in result.message
