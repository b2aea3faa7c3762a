"""Jobs run to their end in real containers."""

from __future__ import annotations

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from errors import EngineFault, RunStopped
from executor import EgressRules, Executor, sandbox
from executor.images import NODE, Images
from executor.spec import LABEL, PARKED
from jobs import Conclusion, JobType, Phase, Reason
from tests.engine_cases import ENGINE_URL, SERVICE, Bench, Recorder

pytestmark = pytest.mark.engine

VITE_PAGE = {"index.html": '<script type="module" src="/main.js"></script>', "main.js": "document.title = 'hello'"}


def test_vite_build(bench: Bench) -> None:
    """A page without package.json becomes a Vite build whose files are kept in path order."""
    watch = Recorder()

    result = bench.run(VITE_PAGE, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert [artifact.path for artifact in result.artifacts] == sorted(watch.files)
    assert "index.html" in watch.files
    assert any(b"hello" in content for content in watch.files.values())
    assert result.detail["outputDir"] == "dist"
    assert result.detail["outputBytes"] == sum(map(len, watch.files.values()))
    assert result.exit_code == 0
    assert watch.steps == [(0, "preparing"), (5, "installing"), (50, "building"), (90, "collecting")]
    assert [phase.name for phase in result.phases] == ["preparing", "installing", "building", "collecting"]


def test_no_dependencies(bench: Bench) -> None:
    """A project without dependencies is not installed; its streams are kept apart, its lines numbered."""
    watch = Recorder()

    result = bench.script("console.log('out'); console.error('err')", watch=watch, job=bench.job())

    assert result.conclusion is Conclusion.SUCCESS
    assert (result.artifacts, result.detail["outputDir"]) == ((), None)
    assert Phase.INSTALLING not in [phase for _, phase in watch.steps]
    assert watch.text("system") == "$ npm run build\n"
    assert "out\n" in watch.text("stdout")
    assert watch.text("stderr") == "err\n"
    ends = [0, *(chunk.end_line for chunk in watch.chunks)]
    assert [chunk.first_line for chunk in watch.chunks] == ends[:-1]


def test_failing_build(bench: Bench) -> None:
    """A build that fails says which command failed, its exit code and its last lines."""
    result = bench.script("console.error('no such color: blurple'); process.exit(3)")

    assert (result.conclusion, result.reason, result.exit_code) == (Conclusion.FAILURE, Reason.BUILD_FAILED, 3)
    assert result.message.startswith("`npm run build` failed with exit code 3:")
    assert "no such color: blurple" in result.message
    assert "no such color: blurple" in result.output_tail


def test_silent_failure(bench: Bench) -> None:
    """A command that fails without a word gets a message without foreign lines."""
    package = {"scripts": {"build": "node -p 1"}, "dependencies": {"picocolors": "1.1.1"}}

    result = bench.run({"package.json": json.dumps(package)}, command="exit 3")

    assert (result.message, result.output_tail) == ("`exit 3` failed with exit code 3", "")


def test_more_processors_than_there_are(bench: Bench) -> None:
    """A limit above the machine's number of processors is no error."""
    assert bench.script("", limits={"cpus": 512}).conclusion is Conclusion.SUCCESS


def test_command_not_found(bench: Bench) -> None:
    """A command that does not exist is told apart from one that fails."""
    result = bench.run({"package.json": "{}"}, command="blurple --all")

    assert (result.conclusion, result.reason, result.exit_code) == (
        Conclusion.FAILURE, Reason.COMMAND_NOT_FOUND, 127,
    )  # fmt: skip


def test_missing_dependency(bench: Bench) -> None:
    """A dependency that no registry has fails the install, and the message names it."""
    result = bench.run(VITE_PAGE, dependencies={"dependencies": {"@chef-workers/no-such-package": "1.0.0"}})

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.INSTALL_FAILED)
    assert "@chef-workers/no-such-package" in result.message


def test_registry_out_of_reach(bench: Bench, tmp_path: Path) -> None:
    """An install that cannot reach the registry is an infrastructure fault, to be tried again."""

    class Elsewhere(Images):
        registry_environment = {"npm_config_registry": "http://registry.invalid"}  # noqa: RUF012

    rules = EgressRules(allow=("http://registry.invalid",))
    executor = Executor(ENGINE_URL, Elsewhere(tmp_path), service=SERVICE, rules=rules)

    result = Bench(executor, bench.client, bench.ran).run(VITE_PAGE)

    assert (result.conclusion, result.reason) == (Conclusion.ERROR, Reason.REGISTRY_UNREACHABLE), result.message
    executor.close()


def test_lockfile_that_differs(bench: Bench) -> None:
    """When npm ci refuses the lockfile, npm install runs instead and the log says so."""
    package = {"scripts": {"build": "node -p 1"}, "dependencies": {"picocolors": "1.1.1"}}
    lock = {"name": "x", "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "x"}}}
    watch = Recorder()

    result = bench.run({"package.json": json.dumps(package), "package-lock.json": json.dumps(lock)}, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    commands = [line for line in watch.text("system").splitlines() if line.startswith("$")]
    assert [command.split(" --")[0] for command in commands] == ["$ npm ci", "$ npm install", "$ npm run build"]
    assert "the lockfile does not match" in watch.text("system")


@pytest.mark.parametrize(
    ("lockfile", "content", "tool"),
    [
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm"),
        ("yarn.lock", "# yarn lockfile v1\n", "yarn"),
        ("yarn.lock", "__metadata:\n  version: 8\n  cacheKey: 10c0\n", "yarn"),
        ("bun.lock", '{"lockfileVersion": 1, "workspaces": {"": {"name": "x"}}, "packages": {}}', "bun"),
    ],
    ids=["pnpm", "yarn classic", "yarn berry", "bun"],
)
def test_other_package_managers(bench: Bench, lockfile: str, content: str, tool: str) -> None:
    """Each package manager installs from its lockfile, or without it when it refuses, and runs the script."""
    package = {"name": "x", "scripts": {"build": "node -p 'require(`picocolors`).green.name'"}}
    package |= {"dependencies": {"picocolors": "1.1.1"}}
    watch = Recorder()

    result = bench.run({"package.json": json.dumps(package), lockfile: content}, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, watch.text()
    assert result.command == f"{tool} run build"


def test_test_job(bench: Bench) -> None:
    """A test job runs the package's test script and keeps no files."""
    package = '{"scripts":{"test":"mkdir dist && touch dist/x && node --test"}}'
    failing = "require('node:test')('sums', () => { throw Error('1 + 1 is not 3') })"

    result = bench.run({"package.json": package, "sum.test.js": failing}, kind=JobType.TEST)

    assert (result.reason, result.artifacts) == (Reason.TESTS_FAILED, ())
    assert "1 + 1 is not 3" in result.message


def test_endless_build(bench: Bench) -> None:
    """A build that never ends, and ignores signals, is ended at its limit; the message names limit and seconds."""
    source = "process.on('SIGTERM', () => {}); console.log('working'); setInterval(() => {}, 1000)"
    began = time.monotonic()

    result = bench.script(source, limits={"command_s": 1.5})

    assert (result.conclusion, result.reason) == (Conclusion.TIMEOUT, Reason.TIMEOUT)
    assert "the limit of one command is 1.5 s" in result.message
    assert "working" in result.output_tail
    assert time.monotonic() - began < 6


def test_whole_job_limit(bench: Bench) -> None:
    """The limit of the whole job ends a step whose own limit is longer."""
    result = bench.script("setInterval(() => {}, 1000)", limits={"total_s": 1.5})

    assert result.reason is Reason.TIMEOUT
    assert "the limit of the whole job is 1.5 s" in result.message


def test_memory_eater(bench: Bench) -> None:
    """A build that takes more memory than its limit ends as out of memory, on the engine's word."""
    source = "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1))"

    result = bench.script(source, limits={"memory_bytes": 192 << 20})

    assert (result.conclusion, result.reason) == (Conclusion.OOM, Reason.OUT_OF_MEMORY)
    assert "192 MB" in result.message


def test_killed_child(bench: Bench) -> None:
    """A build that does well although a child of it ran out of memory is a success with a remark."""
    source = """
        import { spawnSync } from "node:child_process"
        spawnSync("node", ["-e", "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1))"])
    """

    result = bench.script(source, limits={"memory_bytes": 192 << 20})

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert result.detail["usage"]["oomKills"] == 1


def test_own_exit_137(bench: Bench) -> None:
    """A program that ends itself with code 137 has failed; it was not out of memory."""
    result = bench.script("process.exit(137)")

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.BUILD_FAILED)


def test_output_flood(bench: Bench) -> None:
    """Of 100 MB of output the log keeps head and tail, counts the rest exactly, and costs us under 2 s."""
    line = "x" * 99
    source = f"""
        import fs from "node:fs"
        const block = Buffer.from("{line}\\n".repeat(1000))
        for (let i = 0; i < 1000; i++) for (let at = 0; at < block.length;) at += fs.writeSync(1, block, at)
    """
    watch = Recorder()
    began = time.process_time()

    result = bench.script(source, watch=watch)

    spent_s = time.process_time() - began
    assert result.conclusion is Conclusion.SUCCESS, result.message
    chunks = [chunk for chunk in watch.chunks if chunk.stream == "stdout"]
    kept, dropped = sum(chunk.lines for chunk in chunks), sum(chunk.dropped_lines for chunk in chunks)
    header = next(iter(watch.text("stdout").split(line))).count("\n")
    assert kept + dropped == 1_000_000 + header
    assert sum(chunk.dropped_bytes for chunk in chunks) == dropped * 100
    assert sum(len(chunk.text) for chunk in chunks) <= 5 << 20
    assert spent_s < 2


def test_stop(bench: Bench) -> None:
    """A run that is told to stop ends within two seconds, and nothing of it is left."""
    told: list[float] = []

    def when_working(recorder: Recorder) -> bool:
        if "working" in recorder.text("stdout"):
            told.append(time.monotonic())
        return bool(told)

    with pytest.raises(RunStopped):
        bench.script("console.log('working'); setInterval(() => {}, 1000)", watch=Recorder(when_working))

    assert time.monotonic() - told[0] < 2
    assert bench.left_over() == []


def leave(bench: Bench, name: str, service: str = SERVICE, mount: str = "") -> None:
    """A container of ours that was made and never started, as an end of the worker leaves one."""
    image = Images(Path("/nowhere")).ensure(bench.client, NODE)
    mounts = [{"Type": "volume", "Source": mount, "Target": "/work"}] if mount else []
    labels = {LABEL: "1", f"{LABEL}.service": service}
    body = {"Image": image, "Cmd": ["true"], "Labels": labels, "HostConfig": {"Mounts": mounts}}
    bench.client.api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]


def test_older_attempts_are_removed(bench: Bench) -> None:
    """Before an attempt starts, what an older attempt of the same job left is removed; other jobs keep theirs."""
    job, other = bench.job(fence=2), bench.job()
    for owner in (job, other):
        leave(bench, f"cw-{owner.id}-1-2")

    bench.script("", job=job)

    assert bench.left_over(job.id) == []
    assert f"cw-{other.id}-1-2" in bench.objects()
    assert bench.executor.sweep(lambda job_id, _: job_id != other.id) == [f"cw-{other.id}-1-2"]


def test_sweep(bench: Bench) -> None:
    """A sweep removes what carries our label and is not live, and touches nothing of anybody else."""
    job = bench.job()
    mine, another = f"cw-{job.id}-3-2", f"cw-{job.id}-4-2"
    leave(bench, mine)
    leave(bench, another, service="another")
    bench.client.api.create_volume(f"stranger-{job.id}")

    kept = bench.executor.sweep(lambda job_id, attempt: (job_id, attempt) == (job.id, 3))
    removed = bench.executor.sweep(lambda job_id, _: job_id != job.id)

    assert (kept, removed) == ([], [mine])
    bench.client.api.remove_container(another)
    bench.client.api.remove_volume(f"stranger-{job.id}")


def test_sweep_of_a_late_container(bench: Bench) -> None:
    """A container that was made when its workspace was removed already has brought one without a label: both go."""
    job = bench.job()
    name, volume = f"cw-{job.id}-4-1", f"{PARKED}{secrets.token_hex(8)}"
    leave(bench, name, mount=volume)

    removed = bench.executor.sweep(lambda job_id, _: job_id != job.id)

    assert removed == [name, volume]
    assert volume not in [found["Name"] for found in bench.client.api.volumes()["Volumes"] or []]


def test_sweep_of_a_stray_workspace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace that never got a container goes, but not while one may still come."""
    name = f"{PARKED}{secrets.token_hex(8)}"
    bench.client.api.create_volume(name, labels={LABEL: "1", f"{LABEL}.service": SERVICE})

    assert bench.executor.sweep(lambda *_: True) == []
    monkeypatch.setattr(sandbox, "STRAY_S", -5)  # volumes know the second that they were made in
    assert bench.executor.sweep(lambda *_: True) == [name]


def test_several_at_once(bench: Bench) -> None:
    """Several threads run jobs through one executor at the same time."""
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda at: bench.script(f"console.log({at}); process.exit({at})"), range(3)))

    assert [result.exit_code for result in results] == [0, 1, 2]


def test_no_engine(images: Images, bench: Bench) -> None:
    """An engine that does not answer is an infrastructure fault, not a failed job."""
    executor = Executor("tcp://127.0.0.1:1", images)

    with pytest.raises(EngineFault) as fault:
        Bench(executor, bench.client).script("")

    assert fault.value.reason == Reason.RUNTIME_UNAVAILABLE


def test_ended_by_the_engine(bench: Bench, client: docker.DockerClient) -> None:
    """A container that the engine ended, not we and not the job, is a fault of the engine, whatever its exit code."""
    job = bench.job()

    def kill_once(recorder: Recorder) -> bool:
        if "begun" in recorder.text() and not killed:
            killed.extend(client.containers.list(filters={"name": job.id}))
            killed[0].kill(signal="TERM")
        return False

    killed: list[Any] = []
    with pytest.raises(EngineFault, match="ended"):
        bench.script("console.log('begun'); setInterval(() => {}, 1000)", job=job, watch=Recorder(kill_once))


@pytest.mark.parametrize("end", ["process.exit(137)", "process.exit(143)", "process.kill(process.pid, 'SIGKILL')"])
def test_looks_as_if_the_engine_ended_it(bench: Bench, end: str) -> None:
    """A job that ends itself with the codes of a killed container has failed by itself."""
    result = bench.script(end)

    assert result.reason is Reason.BUILD_FAILED
