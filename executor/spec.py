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


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose containers and volume these are, and when they are surely over (Unix s). `fence` numbers the attempt."""

    service: str
    job_id: str
    fence: int
    slot: int
    deadline: int

    @property
    def name(self) -> str:
        """Prefix of the containers' names, and the name of the volume."""
        return f"cw-{self.job_id}-{self.fence}"

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
class Step:
    """One container: image, program, environment. `archive_bytes` > 0: a tar of that size comes on stdin first."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    network: bool = False
    writable: bool = True
    cwd: str = "/"
    archive_bytes: int = 0


def container(step: Step, tenancy: Tenancy, limits: Limits) -> dict[str, Any]:
    """The create call's body for one step of a job.

    Raises:
        ValueError: The slot has no user of its own in the images.
    """
    if not 0 <= tenancy.slot < MAX_SLOTS:
        raise ValueError(f"slot {tenancy.slot} is not within 0..{MAX_SLOTS - 1}")
    uid = FIRST_UID + tenancy.slot
    unpack = ("/bin/sh", "-c", _UNPACK, str(step.archive_bytes)) if step.archive_bytes else ()
    return {
        "Image": step.image,
        "Entrypoint": [],
        "Cmd": [*unpack, *step.command],
        "Env": [f"{name}={value}" for name, value in {**ENVIRONMENT, **step.environment}.items()],
        "User": f"{uid}:{uid}",
        "WorkingDir": step.cwd,
        "Hostname": "job",
        "Labels": tenancy.labels,
        "AttachStdin": bool(unpack),
        "OpenStdin": bool(unpack),
        "StdinOnce": bool(unpack),
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": not step.network,
        "HostConfig": _host_config(step, tenancy, limits),
    }


def _host_config(step: Step, tenancy: Tenancy, limits: Limits) -> dict[str, Any]:
    return {
        # Who the job is to the kernel.
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={SECCOMP}"],
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "NetworkMode": "bridge" if step.network else "none",
        # What it can write: its volume, and a /tmp that ends with the container. Executable, because installers run
        # what they unpack there, and the workspace is executable anyway.
        "ReadonlyRootfs": True,
        "Binds": [],
        "Devices": [],
        "Mounts": [{"Type": "volume", "Source": tenancy.name, "Target": WORK, "ReadOnly": not step.writable}],
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,size=256m,nr_inodes=65536,mode=1777"},  # noqa: S108
        "ShmSize": 64 << 20,
        # How much it gets. Swap is off: memory and memory + swap are the same.
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        # Not NanoCpus: the engine refuses that above the machine's number of processors.
        "CpuPeriod": 100_000,
        "CpuQuota": round(limits.cpus * 100_000),
        "CpuShares": 64,  # below the service's 1024: the API keeps its latency while jobs compute
        "PidsLimit": limits.pids,
        "OomScoreAdj": 900,  # when the machine itself runs out of memory, jobs go first
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
