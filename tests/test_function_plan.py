"""What is done for a function job, and how the tree of a version is packed."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from executor import archive
from executor.functions import plan
from executor.images import NODE, PYTHON
from executor.packing import Packing
from executor.recipes import Plan, Unworkable
from jobs import Artifact, Call, JobType, Package, Phase, Reason, Request
from tests.engine_cases import Recorder

NODE_CALL = Call("node", "index.mjs", "handler", event={"a": "ü"})
PYTHON_CALL = Call("python", "main.py", "handler")
PACKAGE = Package("job-x", 1, "0" * 64, 5)


def planned(call: Call, files: dict[str, str] | None = None, **fields: Any) -> Plan:
    return plan(Request(JobType.FUNCTION, files or {call.file: ""}, call=call, **fields), call)


def test_without_dependencies() -> None:
    """One container with the files, the event and our caller; nothing is installed, and nothing but a report taken."""
    made = planned(NODE_CALL)

    assert (made.image, made.install, dict(made.files)) == (NODE, (), {"index.mjs": ""})
    (work,) = made.works
    assert (work.command, work.phase, work.failed, work.outputs) == (
        "node /work/tools/invoke.mjs", Phase.INVOKING, Reason.FUNCTION_EXITED, ()
    )  # fmt: skip
    assert set(made.tools) == {"invoke.mjs", "call.json"}
    order = json.loads(made.tools["call.json"])
    assert (order["file"], order["export"], order["event"], order["check"]) == (
        "index.mjs", "handler", {"a": "ü"}, False
    )  # fmt: skip


def test_packages_of_node() -> None:
    """They go into a package.json that says nothing of the kind of modules."""
    made = planned(NODE_CALL, dependencies={"dependencies": {"ms": "2.1.3"}})

    manifest = json.loads(made.files["package.json"])
    assert manifest == {"private": True, "dependencies": {"ms": "2.1.3"}}
    assert made.install == ("npm install --no-audit --no-fund --ignore-scripts",)
    assert "npm_config_node_linker" not in made.environment


def test_lockfile_of_node() -> None:
    """A function with a lockfile is installed by its package manager, exactly, and laid out without links."""
    files = {"index.mjs": "", "package.json": '{"dependencies":{"ms":"2"}}', "pnpm-lock.yaml": ""}

    made = planned(NODE_CALL, files)

    assert made.install[0].startswith("pnpm install --frozen-lockfile")
    assert made.environment["npm_config_node_linker"] == "hoisted"


def test_package_json_alone() -> None:
    """A package.json without packages installs nothing and stays as it is."""
    files = {"index.js": "", "package.json": '{"type":"module"}'}

    made = planned(replace(NODE_CALL, file="index.js"), files)

    assert (made.install, made.files["package.json"]) == ((), '{"type":"module"}')


def test_packages_of_python() -> None:
    """pip takes wheels alone, unless scripts are allowed; names are quoted for the shell."""
    wanted = {"dependencies": {"six": ">=1,<2", "b[x]": ""}}

    (command,) = planned(PYTHON_CALL, dependencies=wanted).install
    (allowed,) = planned(PYTHON_CALL, {"main.py": "", "requirements.txt": ""}, install_scripts=True).install

    assert "--only-binary :all: --target .packages 'six>=1,<2' 'b[x]'" in command
    assert "only-binary" not in allowed
    assert allowed.endswith("--target .packages -r requirements.txt")
    assert planned(PYTHON_CALL).install == ()
    assert planned(PYTHON_CALL).image == PYTHON


@pytest.mark.parametrize("line", ["--no-binary :all:", "./local", "x @ git+https://example.test/x"])
def test_requirements_that_would_run_code(line: str) -> None:
    """What would have code run in the install, or comes from elsewhere, is refused before anything starts."""
    with pytest.raises(Unworkable, match=r"requirements\.txt: ") as refused:
        planned(PYTHON_CALL, {"main.py": "", "requirements.txt": f"six\n{line}\n"})

    assert refused.value.reason is Reason.DEPENDENCY_SOURCE_NOT_ALLOWED


def test_making_a_version() -> None:
    """It is installed, looked at, and packed: the whole tree is the output."""
    call = replace(PYTHON_CALL, name="days", version=2)

    made = planned(call, dependencies={"dependencies": {"six": ""}})

    assert made.outputs == (".",)
    assert json.loads(made.tools["call.json"])["check"] is True
    assert "unchecked-hash" in made.install[0]
    assert made.works[0].facts["call"] == {
        "runtime": "python", "handler": "main.handler", "name": "days", "version": 2
    }  # fmt: skip


def test_calling_a_version() -> None:
    """Its tree comes from elsewhere: no files, no installation, no output."""
    call = replace(NODE_CALL, name="days", version=2, package=PACKAGE)

    made = planned(call, dependencies={"dependencies": {"ms": "2.1.3"}})

    assert (made.install, dict(made.files), made.outputs) == ((), {}, ())
    assert json.loads(made.tools["call.json"])["check"] is False


def test_packing() -> None:
    """What is kept becomes one tar that any tar reads when the archive of a call follows it; the rest is passed on."""
    watch = Recorder()
    long = "a/" * 100 + "long.txt"
    with Packing(watch) as packing:
        assert packing.keep("index.mjs", [b"one", b"two"]) == Artifact(
            "index.mjs", 6, "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1"
        )
        packing.keep(long, [b"x" * 513])
        packing.keep("empty", [])
        packing.progress(50, Phase.INVOKING)
        tree = packing.hand_over()

    assert watch.steps == [(50, Phase.INVOKING)]
    content = watch.files["tree.tar"]
    assert tree.size == len(content)
    whole = content + b"".join(archive.pack({}, {"call.json": "{}"}))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        found = {member.name: (member.isfile(), member.mode, member.size) for member in tar}
        assert tar.extractfile("project/index.mjs").read() == b"onetwo"  # type: ignore[union-attr]
    assert found["project/index.mjs"] == (True, 0o755, 6)
    assert found[f"project/{long}"] == (True, 0o755, 513)
    assert found["project/empty"] == (True, 0o755, 0)
    assert found["tools/call.json"][0]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a//b", ""])
def test_packing_refuses_what_leads_out(path: str) -> None:
    """A path that would leave the project is never packed, whoever sends it."""
    with Packing(Recorder()) as packing, pytest.raises(ValueError, match="canonical"):
        packing.keep(path, [b""])
