"""Pure: what one step may do -> the body of Docker's container-create call. Every hardening setting lives here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import Limits

#: Everything we make at the engine carries this label; nothing without it is ever touched.
LABEL = "chef-workers"
WORK = "/work"
PROJECT = "/work/project"
HOME = "/work/home"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
#: The slot's own user: jobs that share a uid would share kernel quotas (inotify, keys, pipes) across containers.
FIRST_UID = 20_000
MAX_SLOTS = 256
BLOCK_BYTES = 64 << 10
#: What volumes, and containers that wait for their job, are called, with a word and a number behind.
PARKED = "cw-parked-"
#: What holds a failed job's workspace is called, with the attempt's name and a number behind.
KEPT = "cw-kept-"

#: What a job may ask the kernel for; docs/security.md has the reasons. The engine takes the text, not a path.
SECCOMP = json.dumps(json.loads((Path(__file__).parent / "seccomp.json").read_text()), separators=(",", ":"))

#: All that a container's environment holds, before the job's own variables.
ENVIRONMENT: dict[str, str] = {
    "PATH": PATH,
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "CI": "true",
    "NO_COLOR": "1",  # logs are read by programs as often as by people
    "NODE_EXTRA_CA_CERTS": CA_BUNDLE,
    "SSL_CERT_FILE": CA_BUNDLE,
}

# Waits for one order: a line with the sizes of an archive and of a text for the shell, then both. It reads exactly so
# much, so no half-closed connection is needed, and unpacks before the job's own variables (TAR_OPTIONS, ...) are there.
_WAIT = """
read -r archive order || exit
[ "$archive" = 0 ] || /usr/bin/head -c "$archive" | /bin/tar -x -C /work -f - || exit
order=$(/usr/bin/head -c "$order") && eval "$order"
"""
#: How a shell runs a job's command where variables and stdin are given otherwise: $0 is the project, $1 the command.
IN_PROJECT = 'cd "$0" && exec /bin/sh -c "$1"'


def attempt_name(job_id: str, fence: int) -> str:
    """What the containers of one attempt are called, with a number behind. `fence` numbers the attempts of a job."""
    return f"cw-{job_id}-{fence}"


def owner(container: str) -> tuple[str, int] | None:
    """(job, fence) that a container of this name runs for; None for one that waits, or holds what is kept."""
    parts = container.removeprefix("cw-").rsplit("-", 2)
    if len(parts) < 3 or container.startswith((PARKED, KEPT)) or not parts[1].isdecimal():
        return None
    return parts[0], int(parts[1])


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose containers and workspace these are: `volume` is the workspace's name."""

    service: str
    slot: int
    volume: str

    @property
    def uid(self) -> int:
        """The user that the slot's containers run as, and nobody else's."""
        return FIRST_UID + self.slot

    @property
    def labels(self) -> dict[str, str]:
        """What a sweep reads. A label cannot change, so the job is in the containers' names."""
        return {LABEL: "1", f"{LABEL}.service": self.service}


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume beside the workspace, read-only unless it is to be filled by code of ours."""

    volume: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One container: image, program, environment.

    `network` is "none", the name of one, or "container:" and the id of the container whose loopback it shares.
    `volumes_from` is a container whose volumes it sees, read-only; `mounts` are further volumes. `trusted`: runs our
    own code alone, so it gets the engine's own runtime and limits of ours.
    """

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    workspace: bool = True
    writable: bool = True
    stdin: bool = False
    volumes_from: str = ""
    mounts: tuple[Mount, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class House:
    """What all sandboxes of a service have in common.

    `runtime` runs the jobs' code ("": the engine's default). `cgroup_parent` is the control group that holds all
    sandboxes together ("": the engine's). `in_memory`: workspaces are file systems in memory, charged to their job.
    """

    runtime: str = ""
    cgroup_parent: str = ""
    in_memory: bool = False


#: What a container of our own code gets, whatever the job may use.
TRUSTED = Limits(memory_bytes=256 << 20, cpus=1.0, pids=256, total_s=0, install_s=0, command_s=0)


def container(step: Step, tenancy: Tenancy, limits: Limits, house: House) -> dict[str, Any]:
    """The create call's body for one step of a job.

    Raises:
        ValueError: The slot has no user of its own in the images.
    """
    if not 0 <= tenancy.slot < MAX_SLOTS:
        raise ValueError(f"slot {tenancy.slot} is not within 0..{MAX_SLOTS - 1}")
    return {
        "Image": step.image,
        "Entrypoint": [],
        "Cmd": list(step.command),
        "Env": [f"{name}={value}" for name, value in {**ENVIRONMENT, **step.environment}.items()],
        "User": f"{tenancy.uid}:{tenancy.uid}",
        "WorkingDir": "/",
        # Who shares another container's network has its name too.
        "Hostname": "" if step.network.startswith("container:") else "job",
        "Labels": tenancy.labels,
        "AttachStdin": step.stdin,
        "OpenStdin": step.stdin,
        "StdinOnce": step.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": step.network == "none",
        "HostConfig": _host_config(step, tenancy, TRUSTED if step.trusted else limits, house),
    }


def shell(image: str, *, network: str, mounts: tuple[Mount, ...] = ()) -> Step:
    """The step that waits for an order() and runs it; if its stdin ends before one came, so does it."""
    return Step(image, ("/bin/sh", "-c", _WAIT), network=network, stdin=True, mounts=mounts)


def order(command: str, environment: Mapping[str, str], archive: Sequence[bytes]) -> list[bytes]:
    """What a shell() gets on stdin: a tar for an empty workspace, or nothing, and a command to run in the project.

    The names of variables are such that a shell takes.
    """
    variables = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    run = f"cd {PROJECT} && exec /bin/sh -c {shlex.quote(command)} </dev/null"
    text = "\n".join([*variables, run]).encode()
    return _joined([b"%d %d\n" % (sum(map(len, archive)), len(text)), *archive, text])


def _joined(blocks: Iterable[bytes]) -> list[bytes]:
    """The same bytes in fewer blocks: each that is sent wakes the engine."""
    joined, small = list[bytes](), bytearray()
    for block in blocks:
        small += block
        if len(small) >= BLOCK_BYTES:
            joined.append(bytes(small))
            small.clear()
    return [*joined, bytes(small)]


def volume(tenancy: Tenancy, limits: Limits, house: House) -> dict[str, str]:
    """Options of Docker's local driver for a job's workspace: none for a folder on the engine's disk."""
    if not house.in_memory:
        return {}
    bounds = f"size={limits.disk_bytes},nr_inodes={limits.disk_files},mode=0700,uid={tenancy.uid},gid={tenancy.uid}"
    return {"type": "tmpfs", "device": "tmpfs", "o": f"nosuid,nodev,{bounds}"}


def _host_config(step: Step, tenancy: Tenancy, limits: Limits, house: House) -> dict[str, Any]:
    # A workspace in memory is charged to the container that writes to it.
    memory = limits.memory_bytes + (limits.disk_bytes if house.in_memory and not step.trusted else 0)
    return {
        # Who the job is to the kernel.
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={SECCOMP}"],
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "NetworkMode": step.network,
        # Another runtime has a loopback of its own, so the container that shares its keeper's takes the engine's.
        "Runtime": house.runtime if step.network == "none" and not step.trusted else "",
        # What it can write: its volume, and a /tmp that ends with the container. Executable, because installers run
        # what they unpack there, and the workspace is executable anyway.
        "ReadonlyRootfs": True,
        "Binds": [],
        "Devices": [],
        "Mounts": [
            *([_workspace(step, tenancy, house)] if step.workspace else []),
            *(
                {"Type": "volume", "Source": each.volume, "Target": each.target, "ReadOnly": not each.writable}
                for each in step.mounts
            ),
        ],
        "VolumesFrom": [f"{step.volumes_from}:ro"] if step.volumes_from else [],
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777"},  # noqa: S108
        "ShmSize": 64 << 20,
        # How much it gets. Swap is off: memory and memory + swap are the same.
        "Memory": memory,
        "MemorySwap": memory,
        # Not NanoCpus: the engine refuses that above the machine's number of processors.
        "CpuPeriod": 100_000,
        "CpuQuota": round(limits.cpus * 100_000),
        "CpuShares": 64,  # below the service's 1024: the API keeps its latency while jobs compute
        "PidsLimit": limits.pids,
        "OomScoreAdj": 900,  # when the machine itself runs out of memory, jobs go first
        "CgroupParent": house.cgroup_parent,
        "Ulimits": [
            {"Name": "nofile", "Soft": 4096, "Hard": 4096},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": 512 << 20, "Hard": 512 << 20},
        ],
        # How it runs and ends.
        "Init": True,
        "AutoRemove": False,  # its exit code and OOM flag are read after the end
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none", "Config": {}},  # output goes to us; a flood must not fill the daemon's disk
    }


def _workspace(step: Step, tenancy: Tenancy, house: House) -> dict[str, Any]:
    mount = {"Type": "volume", "Source": tenancy.volume, "Target": WORK, "ReadOnly": not step.writable}
    # A folder takes over the mode of /work in the image; a file system in memory has its own.
    return mount | ({"VolumeOptions": {"NoCopy": True}} if house.in_memory else {})
