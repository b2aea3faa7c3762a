"""The hardening profile, word for word: whoever weakens it has to change this file too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor import archive
from executor.spec import MAX_SLOTS, SECCOMP, House, Mount, Step, Tenancy, container, order, owner, shell, volume
from jobs import Limits

LIMITS = Limits(memory_bytes=512 << 20, cpus=1.5, pids=256, total_s=300, install_s=180, command_s=240)
TENANCY = Tenancy("cw", 3, "cw-parked-1")
DISK, MEMORY = House("", "/chef-workers"), House("", "/chef-workers", in_memory=True)
STEP = Step("image:tag", ("npm", "run", "build"))


def test_build_container() -> None:
    """A build's container has this profile and nothing else."""
    assert container(STEP, TENANCY, LIMITS, DISK) == {
        "Image": "image:tag",
        "Entrypoint": [],
        "Cmd": ["npm", "run", "build"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/work/home",
            "LANG=C.UTF-8",
            "CI=true",
            "NO_COLOR=1",
            "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ],
        "User": "20003:20003",
        "WorkingDir": "/",
        "Hostname": "job",
        "Labels": {
            "chef-workers": "1",
            "chef-workers.service": "cw",
        },
        "AttachStdin": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "Privileged": False,
            "CapAdd": [],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", f"seccomp={SECCOMP}"],
            "IpcMode": "private",
            "PidMode": "",
            "UTSMode": "",
            "NetworkMode": "none",
            "Runtime": "",
            "ReadonlyRootfs": True,
            "Binds": [],
            "Devices": [],
            "Mounts": [{"Type": "volume", "Source": "cw-parked-1", "Target": "/work", "ReadOnly": False}],
            "VolumesFrom": [],
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777"},
            "ShmSize": 67_108_864,
            "Memory": 536_870_912,
            "MemorySwap": 536_870_912,
            "CpuPeriod": 100_000,
            "CpuQuota": 150_000,
            "CpuShares": 64,
            "PidsLimit": 256,
            "OomScoreAdj": 900,
            "CgroupParent": "/chef-workers",
            "Ulimits": [
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": 536_870_912, "Hard": 536_870_912},
            ],
            "Init": True,
            "AutoRemove": False,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none", "Config": {}},
        },
    }


def differences(step: Step, house: House = DISK) -> set[str]:
    """Settings in which a step's container differs from a build's."""
    ours, build = container(step, TENANCY, LIMITS, house), container(STEP, TENANCY, LIMITS, DISK)
    host, build_host = ours.pop("HostConfig"), build.pop("HostConfig")
    return {name for name in ours if ours[name] != build[name]} | {n for n in host if host[n] != build_host[n]}


def test_install_container() -> None:
    """An install differs from a build in that it shares its keeper's loopback; it has no other network either."""
    install = replace(STEP, network="container:keeper")

    assert differences(install) == {"Hostname", "NetworkDisabled", "NetworkMode"}
    assert container(install, TENANCY, LIMITS, DISK)["HostConfig"]["NetworkMode"] == "container:keeper"


def test_keeper_container() -> None:
    """Our own code gets limits of ours and sees the workspace read-only; it is locked in like a job otherwise."""
    keeper = replace(STEP, writable=False, stdin=True, volumes_from="proxy", trusted=True)
    stdin = {"AttachStdin", "OpenStdin", "StdinOnce"}

    assert differences(keeper) == stdin | {"Mounts", "VolumesFrom", "Memory", "MemorySwap", "CpuQuota"}
    assert container(keeper, TENANCY, LIMITS, DISK)["HostConfig"]["VolumesFrom"] == ["proxy:ro"]


def test_shared_volumes() -> None:
    """A volume beside the workspace is read-only, unless it is given to code of ours to be filled."""
    shared = replace(STEP, mounts=(Mount("deps", "/deps"),))
    filled = replace(STEP, workspace=False, mounts=(Mount("deps", "/work", writable=True),), trusted=True)

    assert differences(shared) == {"Mounts"}
    _, mount = container(shared, TENANCY, LIMITS, DISK)["HostConfig"]["Mounts"]
    assert mount == {"Type": "volume", "Source": "deps", "Target": "/deps", "ReadOnly": True}
    (mount,) = container(filled, TENANCY, LIMITS, DISK)["HostConfig"]["Mounts"]
    assert mount["ReadOnly"] is False


def test_workspace_in_memory() -> None:
    """A workspace in memory is bounded in bytes and files by the kernel, and added to its job's memory."""
    limits = replace(LIMITS, disk_bytes=1 << 30)

    assert differences(STEP, MEMORY) == {"Mounts", "Memory", "MemorySwap"}
    assert container(STEP, TENANCY, limits, MEMORY)["HostConfig"]["Memory"] == (512 << 20) + (1 << 30)
    assert volume(TENANCY, limits, DISK) == {}
    assert volume(TENANCY, limits, MEMORY) == {
        "type": "tmpfs",
        "device": "tmpfs",
        "o": "nosuid,nodev,size=1073741824,nr_inodes=262144,mode=0700,uid=20003,gid=20003",
    }


def test_runtime() -> None:
    """The jobs' code gets the runtime that is asked for, whatever shares a loopback or is ours the engine's own."""
    house = House("runsc", "/chef-workers")

    assert differences(STEP, house) == {"Runtime"}
    assert "Runtime" not in differences(replace(STEP, network="container:keeper"), house)
    assert "Runtime" not in differences(replace(STEP, trusted=True), house)


def test_collect_container() -> None:
    """The collector's workspace is read-only."""
    collect = replace(STEP, writable=False)

    assert differences(collect) == {"Mounts"}
    assert container(collect, TENANCY, LIMITS, DISK)["HostConfig"]["Mounts"][0]["ReadOnly"] is True


def test_shell() -> None:
    """A shell that waits for an order differs from a build in its program and its standard input alone."""
    waiting = shell("image:tag", network="none")

    assert differences(waiting) == {"Cmd", "AttachStdin", "OpenStdin", "StdinOnce"}


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Gives an order to the shell that waits, here, with the workspace in a folder; answers how it ended."""
    _, _, program = shell("", network="none").command
    place = str(tmp_path)
    (tmp_path / "project").mkdir()

    def tell(command: str, environment: dict[str, str], archive: list[bytes], more: bytes = b"") -> Any:
        given = b"".join(order(command, environment, archive)).replace(b"/work", place.encode().ljust(5))
        line, _, rest = given.partition(b"\n")
        sizes = [int(size) for size in line.split()]
        sizes[1] = len(rest) - sizes[0]
        given = b"%d %d\n" % tuple(sizes) + rest + more
        return subprocess.run(
            ["/bin/sh", "-c", program.replace("/work", place)], input=given, capture_output=True, check=False
        )

    return tell


def test_order(told: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """A command gets exactly its variables and no input, runs in the project, and its exit code is the shell's."""
    odd = {"A": "x'y\n\"$HOME` \\", "TAR_OPTIONS": "--no-such-option", "B": ""}

    done = told('printf \'%s|\' "$A" "$B"; pwd; cat a.txt; cat; exit 7', odd, archive.pack({"a.txt": "hello"}), b"more")

    assert done.returncode == 7, done.stderr
    said = done.stdout.decode()
    assert said.startswith(odd["A"] + "||")
    assert said.endswith("/project\nhello")  # and nothing on its standard input


def test_order_without_archive(told: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """Where the workspace is filled already, nothing is unpacked."""
    assert told("echo fine", {}, []).stdout == b"fine\n"


@pytest.mark.parametrize("given", [b"", b"5", b"0 20\nexec tr"])
def test_no_order(given: bytes) -> None:
    """A shell whose standard input ends before an order came runs nothing, and ends."""
    done = subprocess.run(shell("", network="none").command, input=given, capture_output=True, check=False, timeout=10)

    assert done.returncode != 0 or not done.stdout


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("cw-job-0af-12-3", ("job-0af", 12)), ("cw-parked-0af3-1", None), ("cw-parked-12-34-5", None),
        ("cw-egress-0af", None), ("stranger", None), ("", None),
    ],
)  # fmt: skip
def test_owner(name: str, whose: tuple[str, int] | None) -> None:
    """A container's name says whose it is; one that waits is nobody's."""
    assert owner(name) == whose


def test_environment() -> None:
    """A step's own variables come on top of ours and win over them."""
    settings = container(replace(STEP, environment={"CI": "", "MINE": "a=b"}), TENANCY, LIMITS, DISK)

    assert "CI=" in settings["Env"]
    assert "CI=true" not in settings["Env"]
    assert "MINE=a=b" in settings["Env"]


def test_slots() -> None:
    """Every slot is another user, and a slot without a user in the images is refused."""
    users = {container(STEP, replace(TENANCY, slot=slot), LIMITS, DISK)["User"] for slot in range(MAX_SLOTS)}

    assert len(users) == MAX_SLOTS
    for slot in (-1, MAX_SLOTS):
        with pytest.raises(ValueError, match="slot"):
            container(STEP, replace(TENANCY, slot=slot), LIMITS, DISK)


#: Calls that no job needs, each of which has been a way out of, or into, something.
NEVER_ALLOWED = """
    add_key bpf chroot clone3 delete_module fanotify_init finit_module fsconfig fsmount fsopen init_module
    io_uring_enter io_uring_register io_uring_setup kcmp kexec_file_load kexec_load keyctl mbind memfd_secret mount
    mount_setattr move_mount move_pages msgget name_to_handle_at open_by_handle_at open_tree perf_event_open
    personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot
    request_key semget set_mempolicy setns shmget swapon syslog umount2 unshare userfaultfd vmsplice
""".split()  # noqa: SIM905  (forty short lines say less)


def test_system_calls() -> None:
    """Of system calls, what is not named is refused, and neither debugging, namespaces nor io_uring is named."""
    profile = json.loads(SECCOMP)
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert allowed.isdisjoint(NEVER_ALLOWED)
    assert [arch["subArchitectures"] for arch in profile["archMap"]] == [[], []]


def test_restricted_calls() -> None:
    """Sockets are of four kinds, and new processes share their parent's namespaces."""
    rules = [(name, rule.get("args")) for rule in json.loads(SECCOMP)["syscalls"] for name in rule["names"]]
    conditions = {
        name: [[(each["index"], each["value"]) for each in args or []] for found, args in rules if found == name]
        for name in ("socket", "socketpair", "clone")
    }

    assert conditions["socket"] == [[(0, 1)], [(0, 2)], [(0, 10)], [(0, 16), (2, 0)]]
    assert conditions["socketpair"] == [[(0, 1)]]
    assert conditions["clone"] == [[(0, 0x7E020000)]]
