"""The package managers: which one a project uses, how each installs, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from executor.spec import PATH


@dataclass(frozen=True, slots=True)
class Tool:
    """A package manager: the lockfiles it is chosen by, and its two ways to install.

    `frozen` takes the lockfile as it is or refuses; `loose` may change it.
    """

    name: str
    lockfiles: tuple[str, ...]
    frozen: str
    loose: str
    scripts_off: str = "--ignore-scripts"
    scripts_on: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def install(self, *, locked: bool, scripts: bool) -> tuple[str, ...]:
        """Commands in order; the next one is for when the one before refuses the lockfile."""
        option = self.scripts_on if scripts else self.scripts_off
        commands = (self.frozen, self.loose) if locked else (self.loose,)
        return tuple(f"{command} {option}".rstrip() for command in commands)


# A registry that does not answer shows within seconds: trying the whole job again later is the store's part.
_IMPATIENT = {"npm_config_fetch_retry_mintimeout": "1000", "npm_config_fetch_retry_maxtimeout": "5000"}

NPM = Tool(
    name="npm",
    lockfiles=("package-lock.json", "npm-shrinkwrap.json"),
    frozen="npm ci --no-audit --no-fund",
    loose="npm install --no-audit --no-fund",
    environment={"npm_config_update_notifier": "false", **_IMPATIENT},
)
PNPM = Tool(
    name="pnpm",
    lockfiles=("pnpm-lock.yaml",),
    frozen="pnpm install --frozen-lockfile",
    loose="pnpm install --no-frozen-lockfile",
    scripts_off="--ignore-scripts --ignore-pnpmfile",
    scripts_on="--dangerously-allow-all-builds",
    environment={
        # A project may name another version of pnpm; fetching that one would be a second install.
        "npm_config_manage_package_manager_versions": "false",
        "npm_config_package_manager_strict": "false",
        **_IMPATIENT,
    },
)
YARN = Tool(
    name="yarn",
    lockfiles=("yarn.lock",),
    frozen="yarn install --non-interactive --frozen-lockfile",
    loose="yarn install --non-interactive",
    environment={"SKIP_YARN_COREPACK_CHECK": "1", "YARN_IGNORE_PATH": "1"},
)
YARN_BERRY = Tool(
    name="yarn",
    lockfiles=("yarn.lock",),
    frozen="yarn install --immutable",
    loose="yarn install --no-immutable",
    scripts_off="--mode=skip-build",
    environment={"YARN_IGNORE_PATH": "1", "YARN_ENABLE_TELEMETRY": "0", "PATH": f"/opt/yarn-berry/bin:{PATH}"},
)
BUN = Tool(
    name="bun",
    lockfiles=("bun.lock", "bun.lockb"),
    frozen="bun install --frozen-lockfile",
    loose="bun install --no-frozen-lockfile",
)

LOCKFILES = tuple(name for tool in (NPM, PNPM, YARN, BUN) for name in tool.lockfiles)

#: What an installer prints that tells why it failed; looked for in every line of an install.
SIGNS = re.compile(
    r"(?<=npm error code )E[A-Z0-9_]+|ERR_PNPM_[A-Z0-9_]+|YN00\d\d|lockfile needs to be updated|lockfile had changes"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ERR_SSL_WRONG_VERSION_NUMBER"
    r"|trouble with your network connection|ConnectionRefused|FailedToOpenSocket"
    r"|`uv\.lock` needs to be updated|Failed to parse `uv\.lock`"
    r"|error sending request for url|HTTP status server error"
)
_REFUSED = {"EUSAGE", "YN0028", "lockfile needs to be updated", "lockfile had changes"}
_UV_REFUSED = {"`uv.lock` needs to be updated", "Failed to parse `uv.lock`"}
_PNPM_REFUSED = "ERR_PNPM_OUTDATED_LOCKFILE", "ERR_PNPM_LOCKFILE_CONFIG_MISMATCH", "ERR_PNPM_LOCKFILE_BREAKING_CHANGE"
#: The last is what a proxy's own error looks like to a program that has begun to speak TLS.
_NETWORK = {
    "ERR_SSL_WRONG_VERSION_NUMBER",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
}
_NETWORK_IN_WORDS = {"trouble with your network connection", "ConnectionRefused", "FailedToOpenSocket"} | {
    "error sending request for url",
    "HTTP status server error",
}
_SERVER_ERROR = re.compile(r"E5\d\d|ERR_PNPM_FETCH_5\d\d|ERR_PNPM_META_FETCH_FAIL")
_VERDICT = re.compile(r"E[A-Z0-9_]+|ERR_PNPM_\w+|YN0035|YN0082")


def chosen(files: Collection[str], read: Mapping[str, str]) -> Tool:
    """The package manager of a project, by its lockfile; npm if there is none."""
    for tool in (NPM, PNPM, YARN, BUN):
        if has_lockfile(tool, files):
            return YARN_BERRY if tool is YARN and "__metadata:" in read["yarn.lock"] else tool
    return NPM


def has_lockfile(tool: Tool, files: Collection[str]) -> bool:
    """True if one of the tool's lockfiles is among the files."""
    return any(lockfile in files for lockfile in tool.lockfiles)


def refused_lockfile(found: set[str]) -> bool:
    """True if the installer says that lockfile and package.json do not agree."""
    return bool(found & {*_REFUSED, *_PNPM_REFUSED, *_UV_REFUSED})


def registry_unreachable(found: set[str]) -> bool:
    """True if the install failed because of the network or the registry, not because of what was asked for."""
    if any(_SERVER_ERROR.fullmatch(sign) for sign in found):
        return True
    # A retried connection leaves its word too; a verdict of the installer's own about something else wins.
    verdicts = {sign for sign in found if _VERDICT.fullmatch(sign)} - _NETWORK
    return bool(found & (_NETWORK | _NETWORK_IN_WORDS)) and not verdicts
