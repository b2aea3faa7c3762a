"""The TypeScript client in examples/: its types are those of the API's description, and it compiles against them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import docker
import pytest

from tests.convex.conftest import Packages, packed
from tests.engine_cases import ENGINE_URL

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "examples" / "ts-client"
SOURCES = ("api.d.ts", "client.ts", "tsconfig.json")


def test_client_is_current(packages: Packages) -> None:
    """Made anew from the description of this version, the types are those in the repository, and all compiles."""
    made = subprocess.run([sys.executable, "cli.py", "openapi"], cwd=ROOT, capture_output=True, text=True, check=True)
    client = docker.DockerClient(base_url=ENGINE_URL)
    steps = "mv api.d.ts kept.d.ts && npm run -s generate && diff kept.d.ts api.d.ts && npm run -s check"
    container = client.containers.create(
        packages.image(CLIENT), ["sh", "-c", steps], working_dir="/convex", mem_limit="1g", init=True, user="0"
    )
    try:
        container.put_archive("/convex", packed(CLIENT, SOURCES, {"openapi.json": made.stdout}))
        container.start()
        code = container.wait(timeout=120)["StatusCode"]
        said = container.logs().decode()
    finally:
        container.remove(force=True)
        client.close()

    assert code == 0, f"run make api\n{said[-4_000:]}"
