"""The checks of `make doctor`: what made-up machines lack, each with its fix, and this machine's own report."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import config
import doctor
from executor import Remark, Wish
from executor.survey import CHECKS, Survey, number, remarks
from jobs import Limits

LIMITS = Limits(memory_bytes=512 << 20, cpus=1, pids=256, total_s=9, install_s=9, command_s=9)
INFO: dict[str, Any] = {
    "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"], "CgroupVersion": "2",
    "CgroupDriver": "systemd",
    "MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True, "Runtimes": {"runc": {}},
    "DefaultRuntime": "runc", "LiveRestoreEnabled": True, "Plugins": {"Network": ["bridge"]}, "BridgeNfIptables": True,
    "MemTotal": 32 << 30,
}  # fmt: skip
GOOD = Survey(INFO, {"Engine": "28.1.0", "runc": "1.3.3", "containerd": "2.0.0"}, limits=LIMITS)


def lacks(**info: Any) -> list[Remark]:
    """What is not well with an engine that says this."""
    return [remark for remark in remarks(replace(GOOD, info={**INFO, **info})) if remark.state != "ok"]


def test_nothing_lacks() -> None:
    """An up-to-date rootless engine lacks nothing, by any of the checks."""
    assert [remark.state for remark in remarks(GOOD)] == ["ok"] * len(CHECKS)


@pytest.mark.parametrize(
    ("info", "state", "word"),
    [
        ({"SecurityOptions": ["name=seccomp"]}, "warn", "root"),
        ({"SecurityOptions": ["name=userns"]}, "fail", "filter system calls"),
        ({"MemoryLimit": False}, "fail", "cannot limit memory"),
        ({"PidsLimit": False}, "fail", "cannot limit processes"),
        ({"SwapLimit": False}, "warn", "swap"),
        ({"LiveRestoreEnabled": False}, "warn", "restart"),
        ({"Plugins": {"Network": ["host"]}}, "fail", "bridge"),
        ({"BridgeNfIptables": False}, "warn", "reach each other"),
        ({"MemTotal": 2 << 30}, "warn", "folders"),
    ],
)
def test_engine_lacks(info: dict[str, Any], state: str, word: str) -> None:
    """Each thing that an engine can lack is told, with what to do."""
    (remark,) = lacks(**info)

    assert (remark.state, word in remark.sentence, bool(remark.fix)) == (state, True, True), remark


@pytest.mark.parametrize(
    ("part", "version", "state"),
    [
        ("Engine", "19.3.1", "fail"), ("Engine", "20.10.24+dfsg1", "ok"), ("Engine", "", "fail"),
        ("runc", "1.1.5", "fail"), ("runc", "1.1.11", "fail"), ("runc", "1.1.5+ds1-1+deb12u1", "warn"),
        ("runc", "1.0.0~rc93+ds1-5+deb11u2", "fail"), ("runc", "1.0.0~rc93+ds1-5+deb11u3", "warn"),
        ("runc", "1.1.12", "warn"), ("runc", "1.2.7", "warn"), ("runc", "1.2.8", "ok"), ("runc", "1.3.2", "warn"),
        ("runc", "1.4.0", "ok"), ("runc", "unknown", "warn"),
        ("containerd", "1.4.2", "warn"), ("containerd", "1.6.20", "ok"),
    ],
)  # fmt: skip
def test_versions(part: str, version: str, state: str) -> None:
    """Versions with known holes are told; a distribution's own number says whether it has mended one."""
    found = [remark.state for remark in remarks(replace(GOOD, versions={**GOOD.versions, part: version}))]

    assert set(found) - {"ok"} == {state} - {"ok"}


def test_wishes() -> None:
    """A runtime that the engine does not know, too few processes for gVisor, missing images and no common bound."""
    unknown, gvisor = (replace(GOOD, wish=Wish(runtime=name)) for name in ("kata", "runsc"))
    known = replace(gvisor, info={**INFO, "Runtimes": {"runc": {}, "runsc": {}}})
    others = replace(GOOD, missing=("chef-runner-node",), capped=False)
    told = {name: [(r.state, r.sentence) for r in remarks(each) if r.state != "ok"]
            for name, each in (("unknown", unknown), ("known", known), ("others", others))}  # fmt: skip

    assert told["unknown"] == [("fail", "SANDBOX_RUNTIME asks for kata, which the engine does not know.")]
    assert told["known"] == [("warn", "runsc counts its own threads.")]
    assert [state for state, _ in told["others"]] == ["warn", "warn"]
    assert number("v28.1.0-rc.1") == (28, 1, 0)


@pytest.mark.parametrize(
    ("remark", "state"),
    [
        (doctor.clocks(0.4), "ok"), (doctor.clocks(-60), "warn"),
        (doctor.redis_place("unix:///run/redis.sock"), "ok"), (doctor.redis_place("redis://localhost:6379/0"), "ok"),
        (doctor.redis_place("redis://10.0.0.5:6379/0"), "fail"),
        (doctor.redis_place("redis://:pw@10.0.0.5:6379/0"), "warn"),
        (doctor.redis_place("rediss://:pw@redis.test:6379/0"), "ok"),
        (doctor.engine_address("tcp://10.0.0.5:2375"), "fail"), (doctor.engine_address("ssh://root@builder"), "ok"),
        (doctor.disk_room(100 << 20, 512 << 20), "fail"), (doctor.disk_room(1 << 30, 512 << 20), "warn"),
        (doctor.disk_room(10 << 30, 512 << 20), "ok"),
        (doctor.memory_room(4 << 30, 4 << 30), "warn"), (doctor.memory_room(8 << 30, 2 << 30), "ok"),
        (doctor.receiver("gone", "https://127.0.0.1:1"), "warn"),
    ],
)  # fmt: skip
def test_values(remark: Remark, state: str) -> None:
    """The checks that need no machine."""
    assert remark.state == state, remark
    assert remark.state == "ok" or remark.fix


def test_socket_for_everybody(tmp_path: Path) -> None:
    """A socket of the engine that everybody may use is a failure, with the command that mends it."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        open_to_all = doctor.engine_address(f"unix://{path}")
        path.chmod(0o660)

        assert (open_to_all.state, open_to_all.fix[:9]) == ("fail", "chmod 660")
        assert doctor.engine_address(f"unix://{path}").state == "ok"


def test_network(unused_receiver: str) -> None:
    """An API that is open to the network is a warning, a receiver that takes connections none."""
    given = {"HOST": "0.0.0.0", "CONVEX_SITE_URL": unused_receiver, "WEBHOOK_SECRET": "whsec_" + "A" * 43 + "="}
    settings = config.load(given)

    assert [remark.state for remark in doctor.network(settings)] == ["warn", "ok"]
    assert [remark.state for remark in doctor.network(config.load({}))] == ["ok"]


@pytest.fixture
def unused_receiver() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_redis(redis_url: str) -> None:
    """A Redis that keeps what it accepts has nothing wrong; one that is configured and away is a failure."""
    assert [remark.state for remark in doctor.redis(config.load({"REDIS_URL": redis_url}))] == ["ok", "ok", "ok"]
    (away,) = doctor.redis(config.load({"REDIS_URL": "redis://127.0.0.1:1/0"}))
    assert away.state == "fail"


def test_no_engine(tmp_path: Path) -> None:
    """An engine that does not answer is a failure, and ends the report with 1."""
    said: list[str] = []
    settings = config.load({"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "DATA_DIR": str(tmp_path / "new" / "data")})

    assert doctor.report(settings, said.append) == 1
    assert any("FAIL docker: No Docker Engine answers" in line for line in said)
    assert not (tmp_path / "new").exists()


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_this_machine(tmp_path: Path, redis_url: str) -> None:
    """On a machine that runs the tests nothing fails, and a job with the whole profile runs."""
    said: list[str] = []
    settings = config.load({"REDIS_URL": redis_url, "DATA_DIR": str(tmp_path)})

    assert doctor.report(settings, said.append) == 0, said
    assert any("A job with the whole profile runs" in line for line in said)
    assert len(said) > len(CHECKS)
