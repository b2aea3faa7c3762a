"""Docker Engines for the battery: the machine's, or one of its own that knows another runtime."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from errors import SetupError
from tests.faults.engine_scenarios import job_images
from tests.faults.private_engine import PrivateEngine

USUAL = "/var/run/docker.sock"
#: What a runtime is called with. gVisor's KVM platform needs rights that few machines have; ptrace runs anywhere.
ARGUMENTS = {"runsc": ["--network=none", "--platform=ptrace"]}


@contextlib.contextmanager
def with_runtime(name: str) -> Iterator[str]:
    """The socket of an engine that knows this runtime, beside the machine's, without a network of its own.

    Raises:
        SetupError: The runtime is not installed.
    """
    program = shutil.which(name)
    if not program:
        raise SetupError(f"there is no program {name} here; on Debian `apt-get install {name}` may bring it")
    with tempfile.TemporaryDirectory(prefix="cw-engine-") as place:
        folder = Path(place)
        known = {"runtimes": {name: {"path": program, "runtimeArgs": ARGUMENTS.get(name, [])}}}
        (folder / "daemon.json").write_text(json.dumps(known))
        engine = PrivateEngine(folder, ["--config-file", str(folder / "daemon.json")])
        with engine.serve(job_images()):
            yield engine.url.removeprefix("unix://")
