"""A Docker Engine of the tests' own, beside the machine's: it may be killed, frozen and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import machine


class PrivateEngine:
    """`dockerd` with folders, socket and containerd below `folder`; jobs that need no network run in it."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._options = options
        self.url = f"unix://{folder / 'docker.sock'}"
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def serve(self, images: Sequence[str]) -> Iterator[None]:
        """Run while entered, with these images of the machine's engine."""
        try:
            self.start()
            self._load(images)
            yield
        finally:
            self.thaw()
            self.stop()
            self._clean_up()

    def start(self) -> None:
        """Return when it answers."""
        parts = {"data-root": "data", "exec-root": "run", "pidfile": "pid"}
        options = [f"--{name}={self._folder / place}" for name, place in parts.items()]
        (self._folder / "pid").unlink(missing_ok=True)  # of one that was killed
        log = self._folder / "dockerd.log"
        with log.open("ab") as sink:
            command = ["unshare", "--net", "dockerd", *options, "--bridge=none", "--iptables=false", *self._options]
            command = ["unshare", "--net", "dockerd", *options, "--bridge=none", "--iptables=false", *self._options]
            self._process = subprocess.Popen(
                [*command, "--host", self.url], stdout=sink, stderr=sink, start_new_session=True
            )
        machine.wait_until(lambda: machine.engine_answers(self.url), self._process, "the private engine", log)

    def freeze(self) -> None:
        """Answer nobody, with every connection open."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; its containers run on until it is started again."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As a service manager does: it ends its containers first."""
        assert self._process
        machine.stop_process(self._process, 20)

    def _load(self, images: Sequence[str]) -> None:
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
            loading = ["docker", "--host", self.url, "load", "--quiet"]
            subprocess.run(loading, stdin=saving.stdout, check=True, stdout=subprocess.DEVNULL)

    def _clean_up(self) -> None:
        """What stays behind of a daemon that was killed: its containerd, which the next one took over, and mounts."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self._folder / "run" / "containerd" / "containerd.pid").read_text()), signal.SIGKILL)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in reversed(mounted):
            if place.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
