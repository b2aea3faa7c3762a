"""Runs a command while there is a Docker Engine with the job images: python -m tests.with_engine pytest -n 3 ...

The processes of a test run that share the work would otherwise each install and start one, and each make the images.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import config
import machine
import stack


def main(command: list[str]) -> int:
    """The command's exit code; what was started for it is stopped."""
    settings = config.load()
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="cw-engine-")))
        print(f"Docker Engine: {parts.enter_context(machine.docker_engine(settings.docker_host, folder, print))}")
        stack.make_images(settings.model_copy(update={"data_dir": folder}), print)
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
