"""Settings of the sandboxes: where installs may go, where workspaces are, which runtime runs the jobs' code."""

from __future__ import annotations

import pytest

import config
from errors import SetupError
from executor import EgressRules, Wish


def test_defaults() -> None:
    """Without a word, installs reach the registries alone, and the engine's own runtime runs the jobs."""
    settings = config.load({})

    assert settings.egress == ((), ())
    assert (settings.sandbox_runtime, settings.worker_workspace) == ("", "auto")
    assert settings.limits.disk_bytes == 1 << 30


def test_egress() -> None:
    """Hosts and networks come as lists, which the executor understands."""
    settings = config.load(
        {"EGRESS_ALLOW": "npm.test, http://mirror.test:4873 other.test:8443", "EGRESS_PRIVATE": "10.1.2.0/24,fd00::/64"}
    )

    assert settings.egress[0] == ("npm.test", "http://mirror.test:4873", "other.test:8443")
    EgressRules(*settings.egress).check()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EGRESS_ALLOW", "*.test"),
        ("EGRESS_ALLOW", "ftp://x.test"),
        ("EGRESS_ALLOW", "x.test/path"),
        ("EGRESS_PRIVATE", "10.1.2.3/24"),
        ("EGRESS_PRIVATE", "mirror.test"),
        ("WORKER_WORKSPACE", "ramdisk"),
        ("SANDBOX_RUNTIME", "/usr/bin/runsc"),
        ("WORKER_DISK_LIMIT", "1m"),
    ],
)
def test_mistakes(variable: str, value: str) -> None:
    """What cannot be meant is refused at the start, with the variable's name."""
    with pytest.raises(SetupError, match=variable):
        config.load({variable: value})


def test_wish() -> None:
    """The settings' words for runtime and workspace are the executor's."""
    settings = config.load({"SANDBOX_RUNTIME": "runsc", "WORKER_WORKSPACE": "disk"})

    assert Wish(settings.sandbox_runtime, settings.worker_workspace).workspace == "disk"
