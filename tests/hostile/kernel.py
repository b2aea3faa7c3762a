"""H22-H33: jobs that look for a way through the kernel or the runtime."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from tests.engine.test_kernel import REFUSED, SOCKETS_REFUSED
from tests.hostile.items import Item, Seen, perl, sh

GVISOR = "gVisor answers calls itself, and its answers differ; none of them reaches the host's kernel"


def _calls(table: Mapping[str, tuple[int, ...]]) -> str:
    """Perl that makes each call in a child and tells which is not answered EPERM."""
    rows = ",\n".join(f"    '{name}' => [{', '.join(map(str, numbers))}]" for name, numbers in table.items())
    return f"""
my %calls = (
{rows}
);
for my $name (sort keys %calls) {{
    my $child = fork;
    if (!$child) {{ my $r = syscall($calls{{$name}}[0], @{{$calls{{$name}}}}[1 .. $#{{$calls{{$name}}}}]); exit($r == -1 && $! == 1 ? 0 : 1) }}
    waitpid $child, 0; print "OPEN: $name\\n" if $?;
}}
print "asked for ", scalar(keys %calls), "\\n";
"""


CALLS = {name: numbers for name, numbers in REFUSED.items() if not name.startswith(("unshare", "clone"))}
NAMESPACES = {name: numbers for name, numbers in REFUSED.items() if name.startswith(("unshare", "clone"))}
SOCKETS = {name: (41, *numbers) for name, numbers in SOCKETS_REFUSED.items()}


def _old_program() -> str:
    """A 32-bit program that ends with code 42 by the old way into the kernel."""
    code = b"\xb8\x01\x00\x00\x00\xbb\x2a\x00\x00\x00\xcd\x80"
    start = 0x08048000
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, start + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<8I", 1, 0, start, start, 84 + len(code), 84 + len(code), 5, 0x1000)
    return base64.b64encode(header + segment + code).decode()


HOST_FILES = """
for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /sys/kernel/uevent_helper \
    /proc/sys/kernel/hostname /proc/sys/vm/overcommit_memory /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent \
    /sys/kernel/mm/transparent_hugepage/enabled /proc/1/oom_score_adj /proc/self/attr/current /proc/kcore /proc/kmsg; do
    # What a user could write of its own process is no way out; only what reaches beyond it counts.
    (printf '|/bin/true' >"$f") 2>/dev/null && [ "${f#/proc/1/}" = "$f" ] && echo "OPEN: $f"
done
(cat /proc/kcore /proc/kmsg /proc/keys /proc/timer_list /proc/sched_debug /proc/scsi/scsi | head -c 1) 2>/dev/null |
    grep -q . && echo 'OPEN: reading the kernel'
echo looked
"""
DEVICES = """
mkdir d
for node in 'disk b 8 0' 'vda b 254 0' 'mem c 1 1' 'kmsg c 1 11' 'fuse c 10 229' 'kvm c 10 232' 'tun c 10 200'; do
    set -- $node
    mknod "d/$1" "$2" "$3" "$4" 2>/dev/null && echo "OPEN: mknod $1"
done
for f in /dev/*; do
    case ${f#/dev/} in
        null|zero|full|random|urandom|tty|console|ptmx|pts|shm|mqueue|fd|stdin|stdout|stderr|core|net) ;;
        *) echo "OPEN: $f" ;;
    esac
done
echo looked
"""
SETUID = """
cp /bin/sh own; chmod 6755 own; ./own -p -c 'echo "own copy: $(id -u) $(id -g)"'
for f in $(find / -xdev -perm /6000 -type f 2>/dev/null); do
    case $f in */su|*/mount|*/umount|*/passwd|*/newgrp|*/chsh|*/chfn|*/gpasswd)
        echo "$f: $(timeout 2 "$f" -c 'id -u' root </dev/null 2>&1 | head -1)" ;;
    esac
done
mount -t tmpfs none /tmp 2>/dev/null && echo 'OPEN: mount'
grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Groups)' /proc/self/status
"""
SOCKETS_NEAR = """
find / -xdev -type s 2>/dev/null | sed 's/^/OPEN: /'
ls /var/run/docker.sock /run/docker.sock /run/containerd /run/podman 2>/dev/null | sed 's/^/OPEN: /'
grep -v '^Num' /proc/net/unix | grep '@' | sed 's/^/OPEN: abstract /'
for port in 2375 2376 6379 3001 9323; do (echo >/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo "OPEN: $port"; done
echo looked
"""
DESCRIPTORS = """
for f in $(ls /proc/self/fd /proc/1/fd 2>/dev/null); do readlink /proc/self/fd/$f /proc/1/fd/$f; done 2>/dev/null |
    grep -v -E '^(pipe|socket|anon_inode|/dev/null|/proc/[0-9]+/fd|/work/)' | sed 's/^/OPEN: /'
ls /proc/1/cwd/../../../../../../etc/shadow >/dev/null 2>&1 && cat /proc/1/root/etc/shadow 2>/dev/null | sed 's/^/OPEN: /'
for n in 3 4 5 6 7 8 9 10 11; do ls "/proc/self/fd/$n/../../../../home" 2>/dev/null | sed 's/^/OPEN: /'; done
echo looked
"""
REPLACES = """
for f in /bin/sh /bin/tar /usr/bin/head /usr/bin/env /sbin/docker-init /usr/local/bin/node /etc/ld.so.preload \
    /lib64/ld-linux-x86-64.so.2 /etc/nsswitch.conf /usr/bin/python3 /work/tools/mocha.cjs; do
    (echo evil >"$f") 2>/dev/null && case $f in /work/*) echo 'in its own workspace' ;; *) echo "OPEN: $f" ;; esac
done
mkdir -p node_modules/.bin /work/home/.bin bin; mkdir -p dist
for name in sh tar head env python3 du; do
    printf '#!/bin/sh\\necho ENTERED; cat /proc/1/environ\\n' >node_modules/.bin/$name; chmod 755 node_modules/.bin/$name
    cp node_modules/.bin/$name /work/home/.bin/; cp node_modules/.bin/$name dist/
done
rm -rf /work/reports; ln -s /etc /work/reports
echo 'import os; print("ENTERED")' >sitecustomize.py; cp sitecustomize.py json.py; cp json.py /work/home/usercustomize.py
"""
TOOLS = """
grep -E '^(CapEff|CapBnd|CapPrm|CapInh|CapAmb):[[:space:]]*0+$' /proc/self/status | wc -l | sed 's/^/capability sets empty: /'
grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status
[ "$(id -u)" != 0 ] && echo 'not root'
[ -e /.dockerenv ] && [ -w / ] && echo 'OPEN: the root can be written'
grep -E ' (/host|/rootfs|/var/lib/docker|/var/run) ' /proc/mounts | sed 's/^/OPEN: /'
awk '$4 ~ /^rw/ && $2 !~ "^/(work|tmp|dev|proc|sys)"' /proc/mounts | sed 's/^/OPEN: /'
cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null | sed 's/^/user namespaces of the host: /'
command -v docker kubectl nsenter gdb strace sudo 2>/dev/null | grep -v nsenter | sed 's/^/OPEN: /'
ls /var/run/secrets /run/secrets 2>/dev/null | sed 's/^/OPEN: /'
"""
DUMP = """
env; cat /proc/self/mountinfo /proc/*/cmdline /proc/*/environ /proc/self/cgroup /proc/meminfo /etc/hosts \
    /etc/resolv.conf /etc/hostname 2>/dev/null | tr '\\0' '\\n'; hostname; ls -la / /work /work/home /tmp
find / -xdev -name '*planted*' -not -path '/proc/*' 2>/dev/null | sed 's/^/OPEN: /'
"""


def unprivileged(seen: Seen) -> None:
    """Nobody became another user, and no capability is to be had."""
    assert not re.search(r"(own copy: 0|: 0$)", seen.log, re.MULTILINE), seen.log[-2000:]
    assert len(re.findall(r"Cap\w+:\s*0{16}$", seen.log, re.MULTILINE)) == 5, seen.log[-2000:]


def no_service_paths(seen: Seen) -> None:
    """What a job sees of the host names neither the service's folders nor another's job."""
    for foreign in (str(Path(__file__).parents[2]), "cw-hostile-", "neighbour", "CANARY", "WEBHOOK_SECRET"):
        assert foreign not in seen.log, foreign


def not_entered(seen: Seen) -> None:
    assert "sh" in seen.artifacts
    assert "ENTERED" not in seen.log


def as_usual(seen: Seen) -> None:
    assert (seen.record["result"]["command"], seen.artifacts) == ("npm run build", {"a.txt": b"built\n"})


_FOREIGN = ("image", "user", "workdir", "entrypoint", "volumes", "privileged", "devices", "sysctls", "labels", "network",
            "runtime", "capAdd", "securityOpt")  # fmt: skip
_BUILD = {"package.json": '{"scripts": {"build": "mkdir dist && echo built >dist/a.txt"}}'}
_DOCKER = {
    "Dockerfile": "FROM scratch\nUSER root\nRUN id\n",
    "docker-compose.yml": "services:\n  x:\n    privileged: true\n    volumes: [/:/host]\n",
    ".dockerignore": "*",
    ".devcontainer/devcontainer.json": '{"runArgs": ["--privileged"]}',
    "compose.yaml": "services: {x: {network_mode: host}}",
}

ITEMS = (
    perl("H22", "asks for io_uring, bpf, perf, keys, ptrace and 40 more calls", _calls(CALLS),
         says=(f"asked for {len(CALLS)}",), unsaid=("OPEN",), not_under=GVISOR, quick=True),
    perl("H23", "asks for new namespaces, mounts and chroot", _calls(NAMESPACES), unsaid=("OPEN",),
         says=("asked for",), not_under=GVISOR),
    perl("H24", "opens VSOCK, ALG, packet, raw and netlink sockets", _calls(SOCKETS), unsaid=("OPEN",),
         says=("asked for",), not_under=GVISOR),
    sh("H24", "runs a 32-bit program", "base64 -d <old >a; chmod +x a; ./a; echo ended by $?", unsaid=("ended by 42",),
       says=("ended by",), files={"old": _old_program()}),
    sh("H25", "writes to what steers the kernel", HOST_FILES, says=("looked",), unsaid=("OPEN",), quick=True),
    sh("H26", "makes and opens devices", DEVICES, says=("looked",), unsaid=("OPEN",),
       not_under="the devices in gVisor are its own"),
    sh("H27", "tries to become another user", SETUID, checks=(unprivileged,), unsaid=("OPEN",),
       not_under="what its /proc tells of capabilities is made up by gVisor"),
    sh("H28", "looks for sockets of engines", SOCKETS_NEAR, says=("looked",), unsaid=("OPEN",)),
    sh("H29", "looks through inherited descriptors", DESCRIPTORS, says=("looked",), unsaid=("OPEN",)),
    Item(number="H29", what="asks for image, user, folder, mounts and privileges",
         files=_BUILD, fields=dict.fromkeys(_FOREIGN, True), refused=tuple(f"#/{name}" for name in _FOREIGN), quick=True),
    sh("H30", "replaces shell, tar, loader and tools, and waits for somebody to enter", REPLACES, unsaid=("OPEN",),
       checks=(not_entered,)),
    Item(number="H31", what="brings a Dockerfile and compose files", files=_BUILD | _DOCKER, checks=(as_usual,)),
    sh("H32", "asks what tools for break-outs ask", TOOLS, unsaid=("OPEN",),
       says=("capability sets empty: 5", r"Seccomp:\s+2", r"NoNewPrivs:\s+1", "not root"), not_under=GVISOR),
    sh("H33", "shows everything that it can see", DUMP, unsaid=("OPEN",), checks=(no_service_paths,), quick=True),
)  # fmt: skip
