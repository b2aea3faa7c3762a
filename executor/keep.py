"""Runs alone in the keeper container, beside a job: measures its workspace, and lets an install reach the proxy.

Called as `python3 -I -S -c SOURCE ORDER COLLECTOR`; ORDER is JSON: root, watch ("filesystem" or "tree"), and gate
(null, or socket, port, connections, sentBytes, receivedBytes). On stdin come words, one a line; before the first it
does nothing. "report" makes it report at once, "collect" and a JSON text run the collector with that order, the end
ends it. On stderr it reports, one JSON object a line, whenever something changed: bytes, files, free and closed of the
workspace; sent, received, connections, targets and over of the gate; asked, the number of words it got.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

BLOCK = 1 << 16
REPORT_S = 0.1
#: A tree is measured at most twice a second, and for at most a twentieth of the time.
TREE_S, TREE_PAUSES = 0.5, 19
#: What is in a folder that nobody may open cannot be measured. Tests of file rights close one for a moment.
CLOSED_S = 3.0
IDLE_S = 120.0  # a tunnel through which nothing goes for so long is closed
PROXY_START_S = 15.0
MAX_TARGETS = 64
#: What a client asks of a proxy: CONNECT host:port, or a whole address.
TARGET = re.compile(rb"[A-Z]{3,10} (?:https?://)?([A-Za-z0-9.:\[\]_-]{1,260})[/ ]")


class Gate:
    """A port on the loopback that the install shares, from which every connection goes to the proxy's socket.

    It decides nothing: the proxy does. It counts, and closes for good once a cap is passed.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.lock = threading.Lock()
        self.free = threading.Semaphore(order["connections"])
        self.moved = {"sent": 0, "received": 0}
        self.connections = 0
        self.targets: dict[str, int] = {}
        self.over: str | None = None
        self.listener = socket.create_server(("127.0.0.1", order["port"]), backlog=256)

    def serve(self) -> None:
        """Take connections for ever; more than the cap at a time wait their turn."""
        while True:
            self.free.acquire()
            client, _ = self.listener.accept()
            threading.Thread(target=self.tunnel, args=(client,), daemon=True).start()

    def tunnel(self, client: socket.socket) -> None:
        """One connection, from its first bytes to its end."""
        try:
            with client, contextlib.suppress(OSError), self.proxy() as proxy:
                client.settimeout(IDLE_S)
                first = client.recv(BLOCK)
                self.note(first)
                proxy.sendall(first)
                back = threading.Thread(target=self.pump, args=(proxy, client, "received"), daemon=True)
                back.start()
                self.pump(client, proxy, "sent")
                back.join()
        finally:
            self.free.release()

    def proxy(self) -> socket.socket:
        """A connection to the proxy, which may just be starting."""
        deadline = time.monotonic() + PROXY_START_S
        while True:
            found = socket.socket(socket.AF_UNIX)
            try:
                found.connect(self.order["socket"])
            except OSError:
                found.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                found.settimeout(IDLE_S)
                return found

    def note(self, first: bytes) -> None:
        """Remember where a connection wants to go."""
        found = TARGET.match(first)
        with self.lock:
            self.connections += 1
            self.moved["sent"] += len(first)
            name = found[1].decode() if found else "?"
            name += "" if ":" in name else ":80"
            if name in self.targets or len(self.targets) < MAX_TARGETS:
                self.targets[name] = self.targets.get(name, 0) + 1

    def pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        """Move bytes one way until its end, an error, or a cap."""
        with contextlib.suppress(OSError):
            while (block := source.recv(BLOCK)) and not self.over:
                with self.lock:
                    self.moved[way] += len(block)
                    if self.moved[way] > self.order[way + "Bytes"]:
                        self.over = way
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def report(self) -> dict[str, Any]:
        """What went through so far."""
        with self.lock:
            return {
                **self.moved, "connections": self.connections, "targets": dict(self.targets), "over": self.over
            }  # fmt: skip


def filesystem(root: str) -> dict[str, int]:
    """How full a workspace is that is a file system of its own."""
    found = os.statvfs(root)
    return {"bytes": (found.f_blocks - found.f_bfree) * found.f_frsize, "files": found.f_files - found.f_ffree}


class Tree:
    """How full a workspace is that shares a file system. Follows no link."""

    def __init__(self) -> None:
        self.open_at = time.monotonic()

    def measure(self, root: str) -> dict[str, int]:
        """Its bytes and files, what is left beside it, and whether it has kept a folder closed all the last seconds."""
        size, closed = du(root, "--block-size=1")
        if not closed:
            self.open_at = time.monotonic()
        return {
            "bytes": size,
            "files": du(root, "--inodes")[0],
            "free": os.statvfs(root).f_bavail * os.statvfs(root).f_frsize,
            "closed": time.monotonic() - self.open_at > CLOSED_S,
        }


def du(root: str, option: str) -> tuple[int, bool]:
    """A total over a tree, however deep, without what vanishes meanwhile; True if some folder cannot be opened."""
    command = ["/usr/bin/du", "--summarize", "--one-file-system", option, root]
    done = subprocess.run(command, capture_output=True, check=False)
    return int(done.stdout.split(b"\t")[0] or 0), b": Permission denied" in done.stderr


class Words:
    """What comes on standard input, a word a line."""

    def __init__(self) -> None:
        self.rest = b""

    def next(self, wait_s: float | None) -> bytes | None:
        """The next word, b"" at the end; None if none comes in time."""
        while b"\n" not in self.rest:
            if not select.select([0], [], [], wait_s)[0]:
                return None
            block = os.read(0, BLOCK)
            if not block:
                return b""
            self.rest += block
        word, _, self.rest = self.rest.partition(b"\n")
        return word


def collect(collector: str, order: str) -> None:
    """Run the collector in a process of its own; a new Python would take longer to start than most have to do."""
    child = os.fork()
    if not child:
        code = 1
        try:
            sys.argv = ["-c", order]
            exec(compile(collector, "collect", "exec"), {"__name__": "__main__"})  # noqa: S102  (code of ours)
            code = 0
        except BaseException:  # noqa: BLE001  (whatever it is, this process must end here)
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"the collector ended with {status}")


def main(order: dict[str, Any], collector: str) -> None:
    """Report until left alone."""
    shared = order["watch"] == "tree"
    measure = Tree().measure if shared else filesystem
    gate = Gate(order["gate"]) if order["gate"] else None
    if gate:
        threading.Thread(target=gate.serve, daemon=True).start()
    words = Words()
    last, pause_s, asked = "", None, 0
    while (word := words.next(pause_s)) != b"":
        began = time.monotonic()
        asked += word is not None
        line = json.dumps({**measure(order["root"]), **(gate.report() if gate else {}), "asked": asked})
        if line != last:
            os.write(2, line.encode() + b"\n")
        last, pause_s = line, REPORT_S
        if shared:
            pause_s = max(TREE_S, TREE_PAUSES * (time.monotonic() - began))
        if word and word.startswith(b"collect "):
            collect(collector, word.removeprefix(b"collect ").decode())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
