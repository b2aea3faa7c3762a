"""Pure: what one step may do -> the body of Docker's container-create call. Every hardening setting lives here."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

# Reads exactly the archive's size, so that no half-closed connection is needed, and unpacks it with an empty
# environment: the job's own variables (TAR_OPTIONS, PATH, ...) reach the job's own command only.
_UNPACK = '/usr/bin/head -c "$0" | /usr/bin/env -i /bin/tar -x -C /work -f - && exec "$@" </dev/null'


def name_of(job_id: str, fence: int) -> str:
    """What the containers and the volume of one attempt are called, the containers with a number behind."""
    return f"cw-{job_id}-{fence}"


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose containers and volume these are, and when they are surely over (Unix s). `fence` numbers the attempt."""

    service: str
    job_id: str
    fence: int
    slot: int
    deadline: int

    @property
    def uid(self) -> int:
        """The user that the slot's containers run as, and nobody else's."""
        return FIRST_UID + self.slot

    @property
    def name(self) -> str:
        """Prefix of the containers' names, and the name of the volume."""
        return name_of(self.job_id, self.fence)

    @property
    def labels(self) -> dict[str, str]:
        """What a sweep reads."""
        return {
            LABEL: "1",
            f"{LABEL}.service": self.service,
            f"{LABEL}.job": self.job_id,
            f"{LABEL}.attempt": str(self.fence),
            f"{LABEL}.deadline": str(self.deadline),
        }


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
    `archive_bytes` > 0: a tar of that size comes on stdin first. `volumes_from` is a container whose volumes it sees,
    read-only; `mounts` are further volumes. `trusted`: runs our own code alone, so it gets the engine's own runtime and
    limits of ours.
    """

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    workspace: bool = True
    writable: bool = True
    archive_bytes: int = 0
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
    unpack = ("/bin/sh", "-c", _UNPACK, str(step.archive_bytes)) if step.archive_bytes else ()
    stdin = bool(unpack) or step.stdin
    return {
        "Image": step.image,
        "Entrypoint": [],
        "Cmd": [*unpack, *step.command],
        "Env": [f"{name}={value}" for name, value in {**ENVIRONMENT, **step.environment}.items()],
        "User": f"{tenancy.uid}:{tenancy.uid}",
        "WorkingDir": "/",
        # Who shares another container's network has its name too.
        "Hostname": "" if step.network.startswith("container:") else "job",
        "Labels": tenancy.labels,
        "AttachStdin": stdin,
        "OpenStdin": stdin,
        "StdinOnce": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": step.network == "none",
        "HostConfig": _host_config(step, tenancy, TRUSTED if step.trusted else limits, house),
    }


def shell(
    image: str,
    command: str,
    environment: Mapping[str, str],
    *,
    network: str,
    archive_bytes: int = 0,
    mounts: tuple[Mount, ...] = (),
) -> Step:
    """The step that runs a command of a shell in the project."""
    program = ("/bin/sh", "-c", 'cd "$0" && exec /bin/sh -c "$1"', PROJECT, command)
    return Step(image, program, environment, network=network, archive_bytes=archive_bytes, mounts=mounts)


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
    mount = {"Type": "volume", "Source": tenancy.name, "Target": WORK, "ReadOnly": not step.writable}
    # A folder takes over the mode of /work in the image; a file system in memory has its own.
    return mount | ({"VolumeOptions": {"NoCopy": True}} if house.in_memory else {})
