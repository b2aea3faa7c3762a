"""The Convex side's own tests, in a container without network: with the newest Convex, and with the one Chef has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.convex.conftest import CONVEX, Packages

pytestmark = pytest.mark.engine

CHEF = CONVEX / "chef-pins"


@pytest.mark.parametrize("folder", [CONVEX, CHEF], ids=["newest", "chef"])
@pytest.mark.parametrize("command", [["npx", "tsc"], ["npx", "vitest", "run"]], ids=["types", "tests"])
def test_suite(packages: Packages, folder: Path, command: list[str]) -> None:
    """Types are right and tests pass, and neither needs a network."""
    run(packages, folder, command)


def test_format(packages: Packages) -> None:
    """The TypeScript is formatted."""
    run(packages, CONVEX, ["npx", "prettier", "--check", "."])


@pytest.mark.parametrize("folder", [CONVEX, CHEF], ids=["newest", "chef"])
def test_no_registry_in_lock(folder: Path) -> None:
    """The lock file names no registry, so that packages come from wherever the machine is set up to get them."""
    assert '"resolved"' not in (folder / "package-lock.json").read_text()


def run(packages: Packages, folder: Path, command: list[str]) -> None:
    with packages.run(folder, command, network_mode="none", environment={"NO_COLOR": "1"}) as container:
        status = container.wait(timeout=240)["StatusCode"]
        assert status == 0, container.logs().decode()
