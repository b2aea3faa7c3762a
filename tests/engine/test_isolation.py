"""What a job can reach and leave behind, tried from inside real containers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from executor.images import PYTHON
from executor.spec import LABEL
from jobs import Artifact, Conclusion, Reason
from tests.engine_cases import SERVICE, Bench, Recorder

pytestmark = pytest.mark.engine


def test_no_network_while_building(bench: Bench) -> None:
    """The build reaches nothing outside, not even a name, while loopback works."""
    source = """
        import http from "node:http"
        import os from "node:os"
        const server = http.createServer((_, answer) => answer.end("here")).listen(0, "127.0.0.1", async () => {
            console.log("loopback", await (await fetch(`http://127.0.0.1:${server.address().port}`)).text())
            for (const url of ["http://1.1.1.1", "http://172.17.0.1", "https://example.com"])
                await fetch(url, { signal: AbortSignal.timeout(3000) }).then(() => console.log("open", url), () => {})
            console.log("interfaces", Object.keys(os.networkInterfaces()).join())
            server.close()
        })
    """
    watch = Recorder()

    result = bench.script(source, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert "loopback here" in watch.text("stdout")
    assert "open" not in watch.text("stdout")
    assert "interfaces lo\n" in watch.text("stdout")


def test_who_the_job_is(bench: Bench) -> None:
    """A job is its slot's user without capabilities, on a read-only root, and sees the given variables only."""
    source = """
        import fs from "node:fs"
        import os from "node:os"
        const status = fs.readFileSync("/proc/self/status", "utf8")
        const refused = ["/etc/x", "/usr/x", "/root/x", "/var/tmp/x"].filter((path) => {
            try { fs.writeFileSync(path, ""); return false } catch { return true } })
        console.log(JSON.stringify({
            user: os.userInfo().username, host: os.hostname(), refused: refused.length,
            caps: status.match(/Cap(?:Eff|Bnd):\\s*(\\w+)/g), nnp: /NoNewPrivs:\\s*1/.test(status),
            env: Object.keys(process.env).sort(),
        }))
    """
    watch = Recorder()

    bench.run({"package.json": "{}", "who.mjs": source}, command="node who.mjs", env={"MINE": "1"}, watch=watch)

    who = json.loads(watch.text("stdout"))
    assert (who["user"], who["host"], who["refused"], who["nnp"]) == ("job7", "job", 4, True)
    assert all(int(caps.split()[1], 16) == 0 for caps in who["caps"])
    known = {
        "CHEF_DEADLINE_MS",
        "CHEF_JOB_ID",
        "CI",
        "HOME",
        "HOSTNAME",
        "LANG",
        "NODE_COMPILE_CACHE",
        "NODE_EXTRA_CA_CERTS",
        "NO_COLOR",
        "OLDPWD",
        "PATH",
        "PWD",
        "SSL_CERT_FILE",
    }
    assert {name for name in set(who["env"]) - known if not name.startswith("npm_config_")} == {"MINE"}


def test_own_environment(bench: Bench) -> None:
    """A job's variables, whatever their names, reach its command and not the unpacking of its files before it."""
    env = {"TAR_OPTIONS": "--exclude=*", "LD_PRELOAD": "/work/project/x.so", "PATH": "/usr/local/bin:/bin"}
    command = f'cat a.txt; [ "$TAR_OPTIONS $LD_PRELOAD $PATH" = "{" ".join(env.values())}" ] && echo as given'
    watch = Recorder()

    result = bench.run({"package.json": "{}", "a.txt": "unpacked"}, command=command, env=env, watch=watch)

    assert result.conclusion is Conclusion.SUCCESS, watch.text()
    assert "unpacked" in watch.text("stdout")
    assert "as given" in watch.text("stdout")


def test_install_without_own_environment(bench: Bench) -> None:
    """A job's variables do not reach the install, the only step that could send them away."""
    package = '{"scripts":{"preinstall":"echo in:$SECRET"},"dependencies":{"picocolors":"1.1.1"}}'
    files, env = {"package.json": package}, {"SECRET": "s3cret"}
    watch = Recorder()

    bench.run(files, watch=watch, install_scripts=True, env=env, command="echo out:$SECRET")

    assert "out:***" in watch.text("stdout")
    assert "in:\n" in watch.text("stdout")


def test_collector(bench: Bench) -> None:
    """The collector starts after the job's containers are dead, without network, on a read-only workspace."""
    seen: list[dict[str, Any]] = []

    class Looking(Recorder):
        def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
            filters = {"label": [f"{LABEL}=1", f"{LABEL}.service={SERVICE}"]}
            seen.extend(bench.client.api.containers(filters=filters))
            return super().keep(path, blocks)

    bench.script("import fs from 'node:fs'; fs.mkdirSync('dist'); fs.writeFileSync('dist/a', '')", watch=Looking())

    assert [found["Image"].split(":")[0] for found in seen] == [PYTHON]
    assert [mount["RW"] for mount in seen[0]["Mounts"]] == [False]
    assert seen[0]["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.parametrize("scripts", [False, True])
def test_install_scripts(bench: Bench, scripts: bool) -> None:
    """Install scripts run only when the request asks for them."""
    package = '{"scripts":{"postinstall":"echo ran > ran.txt","build":"ls"},"dependencies":{"picocolors":"1.1.1"}}'
    watch = Recorder()

    bench.run({"package.json": package}, install_scripts=scripts, watch=watch)

    assert ("ran.txt" in watch.text("stdout")) is scripts


def test_links_in_output(bench: Bench) -> None:
    """Links, pipes and unreadable files in the output are listed and never read."""
    source = """
        import fs from "node:fs"
        import { execSync } from "node:child_process"
        fs.mkdirSync("dist/sub", { recursive: true })
        fs.writeFileSync("dist/good.txt", "good")
        fs.writeFileSync("dist/locked.txt", "locked", { mode: 0 })
        fs.symlinkSync("/etc/passwd", "dist/passwd")
        fs.symlinkSync("/etc", "dist/sub/etc")
        execSync("mkfifo dist/pipe")
    """
    watch = Recorder()

    result = bench.script(source, watch=watch)

    assert watch.files == {"good.txt": b"good"}
    assert sorted((entry["path"], entry["reason"]) for entry in result.skipped) == [
        ("locked.txt", "unreadable"),
        ("passwd", "symlink"),
        ("pipe", "fifo"),
        ("sub/etc", "symlink"),
    ]


def test_output_folder_is_a_link(bench: Bench) -> None:
    """An output folder that is a link is not followed."""
    watch = Recorder()

    result = bench.script("import fs from 'node:fs'; fs.symlinkSync('/etc', 'dist')", watch=watch)

    assert (watch.files, result.detail["outputDir"]) == ({}, None)
    assert result.skipped == ({"path": "dist", "reason": "not a real folder"},)


def test_output_too_large(bench: Bench) -> None:
    """An output above the limit is refused as a whole, by its size on paper."""
    source = (
        "import fs from 'node:fs'; fs.mkdirSync('dist'); fs.writeFileSync('dist/a', ''); fs.truncateSync('dist/a', 9e7)"
    )
    watch = Recorder()

    result = bench.script(source, watch=watch, limits={"artifact_bytes": 1 << 20})

    assert (result.reason, watch.files) == (Reason.ARTIFACT_TOO_LARGE, {})
    assert "1,048,576 bytes" in result.message
