"""Bundles: a script whose options are those of the sandboxes, and no value of a caller's variables anywhere."""

from __future__ import annotations

import gzip
import io
import json
import shlex
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts import Shelf
from executor import reproduce, spec
from executor.recipes import plan
from executor.reproduce import NotReproducible, again, options
from executor.spec import House, Step, Tenancy, container
from jobs import Call, Conclusion, JobType, Limits, Package, Reason, Request, Result
from store import Store
from tests.api_cases import UNKNOWN, Client, client
from tests.store_cases import claimed

LIMITS = Limits(
    memory_bytes=256 << 20, cpus=1.5, pids=99, total_s=50, install_s=40, command_s=30.5, disk_bytes=64 << 20
)
SECRET = "sk-live-0123456789"
REQUEST = Request(
    JobType.BUILD,
    {"package.json": '{"dependencies":{"is-odd":"3"}}', "a.txt": "é"},
    binary={"logo.png": "/w=="},
    command="echo '$volume' \"$X\" `id`\n true",
    env={"API_KEY": SECRET},
)


def script(request: Request = REQUEST, house: House | None = None) -> str:
    return again(request, LIMITS, "image:1", house or House(), UNKNOWN).script


def calls(text: str) -> list[list[str]]:
    """The words of each call of step."""
    logical = text[text.index("docker volume create") :].split("\n", 1)[1]
    words = shlex.split(logical.replace('"$volume"', "VOLUME"), posix=True)
    starts = [at for at, word in enumerate(words) if word == "step"]
    return [words[start:end] for start, end in zip(starts, [*starts[1:], len(words)], strict=True)]


def every_step() -> list[Step]:
    usual = Step("i", ("c",), {"A": "b"}, stdin=True)
    return [usual, Step("i", ("c",), network="bridge"), Step("i", ("x",), workspace=False)]


@pytest.mark.parametrize("house", [House(), House("runsc", "/group", in_memory=True)])
def test_every_setting_has_an_option(house: House) -> None:
    """A setting that spec.py gets is an option here, or known to need none: the two cannot part unnoticed."""
    for step in every_step():
        assert options(container(step, Tenancy("s", 3, "v"), LIMITS, house))


def test_unknown_settings() -> None:
    """A setting without an option, and one that is not as usual, are errors, never left out."""
    body = container(every_step()[0], Tenancy("s", 3, "v"), LIMITS, House())

    with pytest.raises(KeyError):
        options({**body, "StopSignal": "SIGINT"})
    with pytest.raises(KeyError):
        options({**body, "HostConfig": {**body["HostConfig"], "GroupAdd": ["docker"]}})
    with pytest.raises(ValueError, match="no option"):
        options({**body, "HostConfig": {**body["HostConfig"], "Privileged": True}})


def test_the_script_is_shell() -> None:
    """The script is valid for sh, whatever the command holds."""
    subprocess.run(["sh", "-n", "-c", script()], check=True)


def test_what_is_called() -> None:
    """An install with a network, the command without; the workspace goes into the first, limits are the job's."""
    install, build = calls(script())

    assert install[:2] == ["step", "40"]
    assert build[:2] == ["step", "30.5"]
    assert any(word.startswith("npm install") for word in install)
    assert "<workspace.tar" in install
    assert "<workspace.tar" not in build
    for call, network in ((install, "bridge"), (build, "none")):
        assert call[call.index("--network") + 1] == network
        for option, value in {"--memory": str(256 << 20), "--cpu-quota": "150000", "--pids-limit": "99"}.items():
            assert call[call.index(option) + 1] == value
        assert "type=volume,source=VOLUME,target=/work" in call
        assert "seccomp=seccomp.json" in call
        assert "--read-only" in call
    assert REQUEST.command in build


def test_variables_are_named_only() -> None:
    """The caller's variables reach the command alone, by name; no value is in the bundle."""
    made = again(REQUEST, LIMITS, "image:1", House(), UNKNOWN)
    install, build = calls(made.script)

    assert "API_KEY" in build
    assert "API_KEY" not in install
    assert SECRET not in made.script
    assert SECRET.encode() not in made.workspace


def test_workspace_in_memory() -> None:
    """A workspace that was in memory is in memory again, with its bounds."""
    text = script(house=House(in_memory=True))

    assert "--opt 'o=nosuid,nodev,size=67108864" in text or "--opt o=nosuid,nodev,size=67108864" in text
    assert str((256 << 20) + (64 << 20)) in text
    assert text.count("docker run --detach") == 1
    assert "docker run --detach" not in script()


def test_pipelines() -> None:
    """Each work of a pipeline is a step; whether the next follows a failure is as asked."""
    request = Request(
        JobType.BUILD,
        {"package.json": '{"scripts":{"build":"true","test":"false"}}'},
        steps=(JobType.TEST, JobType.BUILD),
        on_failure="continue",
    )

    assert script(request).count("|| remember") == len(plan(request).works) == 2


def test_no_plan() -> None:
    """What could never be run cannot be run again."""
    with pytest.raises(NotReproducible):
        script(Request(JobType.BUILD, {"package.json": "nonsense"}))


def test_functions() -> None:
    """A function runs again with its event and its caller; a call of a version has no files of its own to run again."""
    call = Call("node", "index.mjs", "handler", event={"n": 1})
    request = Request(JobType.FUNCTION, {"index.mjs": ""}, call=call)

    made = again(request, LIMITS, "image:1", House(), UNKNOWN)

    assert "node /work/tools/invoke.mjs" in made.script
    with tarfile.open(fileobj=io.BytesIO(made.workspace)) as tar:
        order = json.load(tar.extractfile("tools/call.json"))  # type: ignore[arg-type]
    assert order["event"] == {"n": 1}
    with pytest.raises(NotReproducible, match="named function"):
        script(replace(request, call=replace(call, name="days", version=1, package=Package("job-x", 1, "0", 1))))


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    return client(store, Shelf(tmp_path))


def ended(store: Store, **detail: Any) -> str:
    job_id = store.add(REQUEST).id
    job = claimed(store)
    result = Result(Conclusion.FAILURE, Reason.BUILD_FAILED, "no", exit_code=3, detail=detail)
    store.finish(job.id, job.fence, result)
    return job_id


SANDBOX = {"image": "image:1", "workspace": "disk", "runtime": ""}


def test_bundle(api: Client, store: Store) -> None:
    """A bundle holds the inputs, the script, the filter, and what the job was; nothing of it is secret."""
    job_id = ended(store, sandbox=SANDBOX, usage={"memoryLimitBytes": 1 << 30})

    answer = api.get(f"/api/jobs/{job_id}/bundle")

    raw = gzip.decompress(answer.body)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
        assert archive.getmember(f"{job_id}/run.sh").mode == 0o755
    assert [name.removeprefix(f"{job_id}/") for name in files] == [
        "run.sh",
        "job.json",
        "seccomp.json",
        "workspace.tar",
    ]
    assert SECRET.encode() not in raw
    told = json.loads(files[f"{job_id}/job.json"])
    assert (told["env"], told["exitCode"], told["conclusion"]) == (["API_KEY"], 3, "failure")
    assert f"--memory {1 << 30}".encode() in files[f"{job_id}/run.sh"]
    assert json.loads(files[f"{job_id}/seccomp.json"]) == json.loads(spec.SECCOMP)
    with tarfile.open(fileobj=io.BytesIO(files[f"{job_id}/workspace.tar"])) as workspace:
        assert workspace.extractfile("project/logo.png").read() == b"\xff"  # type: ignore[union-attr]
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.body == api.get(f"/api/jobs/{job_id}/bundle").body


def test_nothing_to_bundle(api: Client, store: Store) -> None:
    """A job that never came to a sandbox, or is not there, has no bundle."""
    waiting = store.add(REQUEST).id

    assert api.get(f"/api/jobs/{waiting}/bundle", status=409).json["code"] == "move_refused"
    store.cancel(waiting, Reason.CANCELLED, "")
    assert api.get(f"/api/jobs/{waiting}/bundle", status=409)
    assert api.get(f"/api/jobs/{UNKNOWN}/bundle", status=404)
    assert reproduce.TENANCY.uid == spec.FIRST_UID + spec.MAX_SLOTS - 1
