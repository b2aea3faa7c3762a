"""What a job may ask the kernel for, tried with bare system calls under the real profile."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from typing import Any

import docker
import pytest

from executor import spec
from executor.images import PYTHON, Images
from tests.engine_cases import LIMITS, SERVICE

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are x86-64's"),
]

TENANCY = spec.Tenancy(SERVICE, 9, "")
#: Each call by its number, with arguments that the kernel accepts or refuses for a reason other than EPERM.
REFUSED = {
    "io_uring_setup": (425, 1, 0), "io_uring_enter": (426, 0, 0, 0), "io_uring_register": (427, 0, 0, 0),
    "userfaultfd": (323, 1), "bpf": (321, 0, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0),
    "keyctl": (250, 0, -3, 0), "add_key": (248, 0, 0, 0, 0, 0), "request_key": (249, 0, 0, 0, 0),
    "ptrace": (101, 0, 0, 0, 0), "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1, 0, 0, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0), "process_madvise": (440, 0, 0, 0, 0, 0), "kcmp": (312, 1, 1, 0, 0, 0),
    "personality": (135, 0xFFFFFFFF), "unshare(user)": (272, 0x10000000), "unshare(mount)": (272, 0x20000),
    "clone(user)": (56, 0x10000000 | 17, 0, 0, 0, 0), "clone(net)": (56, 0x40000000 | 17, 0, 0, 0, 0),
    "setns": (308, 0, 0), "mount": (165, 0, 0, 0, 0, 0), "umount2": (166, 0, 0), "pivot_root": (155, 0, 0),
    "chroot": (161, 0), "open_tree": (428, -100, 0, 0), "fsopen": (430, 0, 0), "move_mount": (429, 0, 0, 0, 0, 0),
    "mount_setattr": (442, 0, 0, 0, 0, 0), "name_to_handle_at": (303, 0, 0, 0, 0, 0),
    "open_by_handle_at": (304, 0, 0, 0), "fanotify_init": (300, 0, 0), "quotactl": (179, 0, 0, 0, 0),
    "shmget": (29, 0, 4096, 0o1600), "semget": (64, 0, 1, 0o1600), "msgget": (68, 0, 0o1600),
    "mq_open": (240, 0, 0, 0, 0),
    "vmsplice": (278, 0, 0, 0, 0), "mbind": (237, 0, 0, 0, 0, 0, 0), "set_mempolicy": (238, 0, 0, 0),
    "move_pages": (279, 0, 0, 0, 0, 0, 0), "memfd_secret": (447, 0), "modify_ldt": (154, 0, 0, 0),
    "syslog": (103, 3, 0, 0),
    "init_module": (175, 0, 0, 0), "kexec_load": (246, 0, 0, 0, 0), "reboot": (169, 0, 0, 0), "iopl": (172, 3),
    "io_setup": (206, 1, 0), "sync": (162,), "settimeofday": (164, 0, 0), "sethostname": (170, 0, 0),
    "acct": (163, 0),
}  # fmt: skip
#: (family, type, protocol)
SOCKETS_REFUSED = {
    "vsock": (40, 1, 0), "alg": (38, 5, 0), "packet": (17, 3, 0), "raw ICMP": (2, 3, 1), "raw IPv6": (10, 3, 58),
    "netlink NETFILTER": (16, 3, 12), "netlink XFRM": (16, 3, 6), "bluetooth": (31, 3, 1), "can": (29, 3, 1),
    "key": (15, 3, 2), "tipc": (30, 1, 0), "xdp": (44, 3, 0), "smc": (43, 1, 0),
}  # fmt: skip
SOCKETS_OPEN = {"unix": (1, 1, 0), "IPv4": (2, 1, 0), "IPv6": (10, 1, 0), "netlink ROUTE": (16, 3, 0)}

PROBE = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def name(code):
    return errno.errorcode.get(ctypes.get_errno()) if code == -1 else "done"
def call(arguments):
    child = os.fork()  # a clone that is not refused must not run on as us
    if not child:
        os._exit(0 if name(libc.syscall(*map(ctypes.c_long, arguments))) == "EPERM" else 1)
    return "EPERM" if os.waitpid(child, 0)[1] == 0 else "not refused"
calls, sockets = json.loads(sys.argv[1])
print(json.dumps({
    "calls": {key: call(arguments) for key, arguments in calls.items()},
    "sockets": {key: name(libc.socket(*arguments)) for key, arguments in sockets.items()},
    "clone3": name(libc.syscall(435, 0, 0)),
    "filter": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")],
}))
"""


@pytest.fixture(scope="module")
def answers(client: docker.DockerClient, images: Images) -> dict[str, Any]:
    """What one container with a build's settings is answered."""
    order = json.dumps([REFUSED, SOCKETS_REFUSED | SOCKETS_OPEN])
    step = spec.Step(images.ensure(client, PYTHON), ("python3", "-I", "-c", PROBE, order))
    settings = spec.container(step, TENANCY, replace(LIMITS, pids=64), spec.House())
    settings["HostConfig"] |= {"LogConfig": {"Type": "json-file"}, "Mounts": []}
    api: Any = client.api
    made = api.create_container_from_config(settings)["Id"]
    try:
        api.start(made)
        assert api.wait(made)["StatusCode"] == 0
        return dict(json.loads(api.logs(made)))
    finally:
        api.remove_container(made, force=True)


def test_refused_calls(answers: dict[str, Any]) -> None:
    """Everything that only widens the kernel's attack surface is refused with EPERM."""
    assert {call: said for call, said in answers["calls"].items() if said != "EPERM"} == {}


def test_sockets(answers: dict[str, Any]) -> None:
    """Only Unix, IPv4, IPv6 and route sockets can be opened."""
    said = answers["sockets"]

    assert {kind: said[kind] for kind in SOCKETS_OPEN} == dict.fromkeys(SOCKETS_OPEN, "done")
    assert {kind: said[kind] for kind in SOCKETS_REFUSED} == dict.fromkeys(SOCKETS_REFUSED, "EPERM")


def test_clone3(answers: dict[str, Any]) -> None:
    """clone3, whose flags no filter can see, looks absent, so that C libraries take clone; a filter is in force."""
    assert (answers["clone3"], answers["filter"]) == ("ENOSYS", ["2"])
