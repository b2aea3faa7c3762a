"""Pure: which of a project's files are taken, and what of the settings of its package managers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

#: Options of an .npmrc that only say how node_modules is laid out; any other could send the installer elsewhere.
_NPMRC_OPTIONS = frozenset(
    {"legacy-peer-deps", "strict-peer-deps", "engine-strict", "install-strategy", "prefer-dedupe", "save-exact"}  # npm
    | {"auto-install-peers", "strict-peer-dependencies", "node-linker", "shamefully-hoist", "hoist"}  # pnpm
    | {"hoist-pattern[]", "public-hoist-pattern[]"}
)
_IGNORED = ("node_modules", ".venv", "__pycache__", ".git")


def taken(files: Mapping[str, str], notes: list[str]) -> Iterator[tuple[str, str]]:
    """The files without what must come from elsewhere; `notes` says what was left out."""
    ignored = dict.fromkeys(_IGNORED, 0)
    for path, text in files.items():
        parts = PurePosixPath(path).parts
        if folder := next((name for name in _IGNORED if name in parts), None):
            ignored[folder] += 1
        elif parts and parts[-1] == ".npmrc":
            yield path, _harmless(path, text, notes)
        elif parts and parts[-1] == ".yarnrc.yml":
            yield path, _harmless_yaml(path, text, notes)
        else:
            yield path, text
    notes += [f"{count} files in {folder} are ignored" for folder, count in ignored.items() if count]


def _harmless(path: str, npmrc: str, notes: list[str]) -> str:
    """An .npmrc without the options that could send the installer elsewhere."""
    options = [line for line in npmrc.splitlines() if "=" in line and line.lstrip()[0] not in "#;"]
    kept = [line for line in options if line.split("=")[0].strip() in _NPMRC_OPTIONS]
    if dropped := [line.split("=")[0].strip() for line in options if line not in kept]:
        notes.append(f"{path}: ignored {', '.join(dropped)}")
    return "".join(f"{line}\n" for line in kept)


#: Settings of Yarn that say how packages are laid out, or name a registry, which the proxy allows or does not. Others
#: load code of the project's into the install (plugins, yarnPath), or lead it elsewhere.
_YARN_SETTINGS = frozenset(
    {"nodeLinker", "nmMode", "nmHoistingLimits", "nmSelfReferences", "pnpMode", "pnpFallbackMode", "pnpIgnorePatterns"}
    | {"packageExtensions", "supportedArchitectures", "logFilters", "compressionLevel", "cacheMigrationMode"}
    | {"defaultSemverRangePrefix", "preferInteractive", "npmRegistryServer", "npmScopes", "enableTelemetry"}
)
_YAML_KEY = re.compile(r"([A-Za-z]+):(?:\s.*)?")


def _harmless_yaml(path: str, yaml: str, notes: list[str]) -> str:
    """A .yarnrc.yml of the plain form `setting:` at the beginning of lines, without the settings that may do harm."""
    kept, dropped, keeping = [], dict[str, None](), False
    for line in yaml.splitlines():
        if line[:1] not in {" ", "#", ""}:
            found = _YAML_KEY.fullmatch(line)
            keeping = bool(found and found[1] in _YARN_SETTINGS)
            if not keeping:
                dropped[found[1] if found else line[:20]] = None
        if keeping:
            kept.append(line)
    if dropped:
        notes.append(f"{path}: ignored {', '.join(dropped)}")
    return "".join(f"{line}\n" for line in kept)
