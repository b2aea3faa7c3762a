"""Pure: a plan that ran -> a shell script that runs it again with plain Docker, from the same settings as spec.py's."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from executor import archive, functions, spec
from executor.recipes import Plan, Unworkable
from executor.spec import House, Tenancy
from jobs import Limits, Request

#: What a caller may set to send installers to a registry of their own.
REGISTRIES = (
    "npm_config_registry",
    "YARN_REGISTRY",
    "YARN_NPM_REGISTRY_SERVER",
    "BUN_CONFIG_REGISTRY",
    "PIP_INDEX_URL",
)
#: What every command is told of its job; the script says it.
TOLD = ("CHEF_JOB_ID", "CHEF_DEADLINE_MS")
VOLUME = "$volume"
_UNPACK = '/usr/bin/head -c "$0" | /usr/bin/env -i /bin/tar -x -C /work -f - && exec "$@" </dev/null'
#: A user of the images that no running job has, unless all 256 slots are in use.
TENANCY = Tenancy("", spec.MAX_SLOTS - 1, VOLUME)


@dataclass(frozen=True, slots=True)
class Again:
    """All that a job needs to run again: the workspace as a tar, the system call filter, and the script."""

    workspace: bytes
    seccomp: str
    script: str


class NotReproducible(Exception):
    """The job never came to a sandbox; the text says why."""


def again(request: Request, limits: Limits, image: str, house: House, job_id: str) -> Again:
    """A job's request once more, in an image of this reference. Values of the job's `env` are nowhere in it.

    Raises:
        NotReproducible: There is no plan for the request.
    """
    if request.call and request.call.package:
        raise NotReproducible("its files are those of a named function's version")
    try:
        plan = functions.planned(request)
        blocks = archive.pack(plan.files, plan.tools, request.binary)
    except (Unworkable, ValueError) as error:
        raise NotReproducible(str(error)) from None
    workspace = b"".join(blocks)
    steps = _Steps(plan, limits, image, house, frozenset(request.env), len(workspace))
    return Again(workspace, spec.SECCOMP, _script(steps, spec.volume(TENANCY, limits, house), job_id))


class _Steps:
    """The containers of a plan, as lines of shell."""

    def __init__(
        self, plan: Plan, limits: Limits, image: str, house: House, own: Collection[str], archive_bytes: int
    ) -> None:
        self.image = image
        self.limits = limits
        self._plan = plan
        self._house = house
        self._own = own
        self._archive_bytes = archive_bytes

    def lines(self) -> Iterator[str]:
        """One call of the script's functions for each container."""
        plan = self._plan
        if plan.install:
            # Each is tried where the one before fails; the service does so where the lockfile is refused.
            calls = [self._step(command, self.limits.install_s, plan.environment, "bridge") for command in plan.install]
            yield " || ".join(calls) + " || finish"
        if plan.setup:
            yield self._step(plan.setup, self.limits.install_s, plan.environment, "none") + " || finish"
        for work in plan.works:
            if not work.missing:
                environment = plan.work_environment({})
                call = self._step(work.command, self.limits.command_s, environment, "none")
                yield f"{call} || {'remember' if plan.goes_on else 'finish'}"

    def holder(self) -> str:
        """A container that does nothing: a workspace in memory is there for as long as one has it."""
        seconds = str(int(self.limits.total_s) + 60)
        step = spec.Step(self.image, ("sleep", seconds), writable=False, trusted=True)
        words = [*map(_quoted, options(spec.container(step, TENANCY, self.limits, self._house))), '"$image"']
        return " ".join(['docker run --detach --name "$volume-0"', *words, "sleep", seconds, ">/dev/null || exit 69"])

    def _step(self, command: str, seconds: float, environment: Mapping[str, str], network: str) -> str:
        size, self._archive_bytes = self._archive_bytes, 0
        step = _step(self.image, command, environment, network, size)
        body = spec.container(step, TENANCY, self.limits, self._house)
        names = REGISTRIES if network == "bridge" else (*sorted(self._own), *TOLD)
        wanted = [*options(body), *(part for name in names for part in ("--env", name))]
        words = [f"step {seconds:g}", *map(_quoted, wanted), '"$image"', *map(shlex.quote, body["Cmd"])]
        return " ".join(words) + (" <workspace.tar" if size else " </dev/null")


def _step(image: str, command: str, environment: Mapping[str, str], network: str, archive_bytes: int) -> spec.Step:
    """What spec.shell() does with an order, as one command: a tar of this size comes on stdin."""
    unpack = ("/bin/sh", "-c", _UNPACK, str(archive_bytes)) if archive_bytes else ()
    program = (*unpack, "/bin/sh", "-c", spec.IN_PROJECT, spec.PROJECT, command)
    return spec.Step(image, program, environment, network=network, stdin=bool(archive_bytes))


def _quoted(word: str) -> str:
    """A word of shell, in which the volume's name is still filled in; for words of ours alone."""
    return shlex.quote(word).replace(VOLUME, "'\"$volume\"'")


# --- settings -> options ----------------------------------------------------------------------------------------------

Options = Callable[[Any], list[str]]


def _one(option: str) -> Options:
    return lambda value: [option, str(value)] if value not in ("", 0) else []


def _each(option: str, text: Callable[[Any], str] = str) -> Options:
    return lambda values: [part for value in values for part in (option, text(value))]


def _if(option: str) -> Options:
    return lambda value: [option] if value else []


def _only(usual: Any) -> Options:
    """For what `docker run` does by itself, and what has no sense outside of the service."""

    def check(value: Any) -> list[str]:
        if usual is not Ellipsis and value != usual:
            raise ValueError(f"{value!r} is not {usual!r}, and has no option")
        return []

    return check


def _security(words: list[str]) -> list[str]:
    plain = ["seccomp=seccomp.json" if word.startswith("seccomp=") else word for word in words]
    return _each("--security-opt")(plain)


def _mount(mount: Mapping[str, Any]) -> str:
    parts = [f"type={mount['Type']}", f"source={VOLUME}", f"target={mount['Target']}"]
    parts += ["readonly"] if mount["ReadOnly"] else []
    return ",".join(parts + (["volume-nocopy"] if mount.get("VolumeOptions", {}).get("NoCopy") else []))


#: Every field of the create call's body; tests hold that none is missing.
_TOP: dict[str, Options] = {
    "Image": _only(...), "Entrypoint": lambda _: ["--entrypoint", ""], "Cmd": _only(...), "Env": _each("--env"),
    "User": _one("--user"), "WorkingDir": _one("--workdir"), "Hostname": _one("--hostname"),
    "Labels": _only(...),  # whatever carries them is swept away by the service
    "AttachStdin": _only(...), "OpenStdin": _if("--interactive"), "StdinOnce": _only(...),
    "AttachStdout": _only(True), "AttachStderr": _only(True), "Tty": _only(False), "NetworkDisabled": _only(...),
    "HostConfig": lambda host: [word for name, value in host.items() for word in _HOST[name](value)],
}  # fmt: skip
_HOST: dict[str, Options] = {
    "Privileged": _only(False), "CapAdd": _only([]), "CapDrop": _each("--cap-drop"), "SecurityOpt": _security,
    "IpcMode": _one("--ipc"), "PidMode": _only(""), "UTSMode": _only(""), "NetworkMode": _one("--network"),
    "Runtime": _one("--runtime"), "ReadonlyRootfs": _if("--read-only"), "Binds": _only([]), "Devices": _only([]),
    "Mounts": _each("--mount", _mount), "VolumesFrom": _only([]),
    "Tmpfs": lambda places: _each("--tmpfs", ":".join)(places.items()), "ShmSize": _one("--shm-size"),
    "Memory": _one("--memory"), "MemorySwap": _one("--memory-swap"), "CpuPeriod": _one("--cpu-period"),
    "CpuQuota": _one("--cpu-quota"), "CpuShares": _one("--cpu-shares"), "PidsLimit": _one("--pids-limit"),
    "OomScoreAdj": _one("--oom-score-adj"), "CgroupParent": _only(...),  # the service's group, not a limit of the job
    "Ulimits": _each("--ulimit", lambda limit: f"{limit['Name']}={limit['Soft']}:{limit['Hard']}"),
    "Init": _if("--init"), "AutoRemove": _only(False), "RestartPolicy": _only({"Name": "no"}),
    "LogConfig": lambda value: ["--log-driver", value["Type"]],
}  # fmt: skip


def options(body: Mapping[str, Any]) -> list[str]:
    """The body of a create call as options of `docker run`. Raises KeyError for a setting that is not known here."""
    return [word for name, value in body.items() for word in _TOP[name](value)]


# --- the script -------------------------------------------------------------------------------------------------------

_HEAD = """\
#!/bin/sh
# Runs a job of Chef Workers again: same image, files, commands and limits, with plain Docker.
# Beside the service: an install has a usual network, reports are not read, and the verdict is the exit code alone.
# Variables of the job's env are taken from the environment of this script, by name.
set -u
cd "$(dirname "$0")"
image={image}
if ! docker image inspect "$image" >/dev/null 2>&1; then
  echo "There is no image $image here. On the service's machine: docker save $image | gzip >image.tar.gz" >&2
  exit 69
fi
volume="chef-again-$$"
ends=$(($(date +%s) + {total}))
export CHEF_JOB_ID={job_id} CHEF_DEADLINE_MS=$((ends * 1000))
steps=0 code=0 verdict=success first_code=0 first_verdict=

finish() {{ # the first failure is the verdict
  remember
  echo "conclusion: ${{first_verdict:-success}} (exit code $first_code)"
  exit "$first_code"
}}

remember() {{
  if [ -z "$first_verdict" ] && [ "$verdict" != success ]; then first_verdict=$verdict first_code=$code; fi
}}

clean() {{
  for step in $(seq 0 "$steps"); do docker rm --force --volumes "$volume-$step" >/dev/null 2>&1; done
  docker volume rm --force "$volume" >/dev/null
}}

step() {{ # seconds, then what docker run gets
  steps=$((steps + 1)) left=$((ends - $(date +%s)))
  seconds=$1
  if [ "$left" -lt "${{seconds%%.*}}" ]; then seconds=$left; fi
  if [ "$left" -lt 1 ]; then code=124 verdict=timeout; return 1; fi
  shift
  timeout --kill-after=5 "$seconds" docker run --name "$volume-$steps" "$@"
  code=$? verdict=failure
  if [ "$code" = 124 ]; then verdict=timeout; docker kill "$volume-$steps" >/dev/null 2>&1; return 1; fi
  if [ "$code" = 0 ]; then verdict=success; return 0; fi
  if [ "$(docker inspect --format '{{{{.State.OOMKilled}}}}' "$volume-$steps")" = true ]; then verdict=oom; fi
  return 1
}}

trap clean EXIT
trap 'exit 130' INT TERM
docker volume create {options}"$volume" >/dev/null || exit 69
"""


def _script(steps: _Steps, volume: Mapping[str, str], job_id: str) -> str:
    chosen = "".join(f"--opt {shlex.quote(f'{name}={value}')} " for name, value in volume.items())
    head = _HEAD.format(image=shlex.quote(steps.image), total=int(steps.limits.total_s), options=chosen, job_id=job_id)
    return "\n".join([head, *([steps.holder()] if volume else []), *steps.lines(), "finish", ""])
