"""Reads the body of a submission: a checked jobs.Request, or every mistake in it named at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import jiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from errors import InvalidRequest, Mistake
from jobs import JobType, Request

MAX_FIELDS = 64
MAX_MISTAKES = 50
MAX_CHAT_ID = 200
MAX_COMMAND = 4_096
MAX_PATH_BYTES = 1_024
MAX_SEGMENT_BYTES = 255
MAX_DEPTH = 32
MAX_PACKAGES = 1_000
MAX_NAME = 214
MAX_VERSION = 256
MAX_VARIABLES = 100
MAX_ENV_BYTES = 64 << 10
#: The maps of a package.json that a nested `dependencies` may hold. A flat one means the first.
SECTIONS = ("dependencies", "devDependencies", "peerDependencies")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one project may hold: number of files, and bytes of all their texts in UTF-8."""

    max_files: int = 2_000
    max_project_bytes: int = 10 << 20


class _Edge(BaseModel):
    """camelCase outside, no unknown fields, no conversions. A description is the rule that a mistake quotes."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel)


class JobData(_Edge):
    """What to run: the files of a project and how to treat them."""

    project_files: dict[str, Any] = Field(
        min_length=1, description="a map of file paths to their text, with at least one file"
    )
    chat_id: str = Field(
        "",
        max_length=MAX_CHAT_ID,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
        description=f"a string of at most {MAX_CHAT_ID} characters, without control characters",
    )
    dependencies: dict[str, Any] = Field(
        default_factory=dict,
        description=f"a map of package names to versions, or a map of {', '.join(SECTIONS)} to such maps",
    )
    command: str = Field(
        "",
        max_length=MAX_COMMAND,
        pattern=r"^[^\x00]*$",
        description=f"a string of at most {MAX_COMMAND:,} characters, without NUL",
    )
    test_command: str = Field(
        "",
        max_length=MAX_COMMAND,
        pattern=r"^[^\x00]*$",
        description=f"a string of at most {MAX_COMMAND:,} characters, without NUL",
    )
    env: dict[str, Any] = Field(default_factory=dict, description="a map of variable names to strings")
    strategy: str = Field("", description="a string; it is accepted for older clients and changes nothing")
    install_scripts: bool = Field(default=False, description="true or false")


class Submission(_Edge):
    """The body of POST /api/jobs."""

    type: JobType = Field(strict=False, description=f"one of {', '.join(JobType)}")
    priority: int = Field(
        5, ge=1, le=20, description="a whole number from 1 to 20; larger runs first, 5 is the default"
    )
    data: JobData = Field(description="an object with projectFiles")


def parse(body: bytes, bounds: Bounds) -> Request:
    """Read and check one submission.

    Raises:
        InvalidRequest: With all mistakes; beyond the first 50 they are only counted. No mistake quotes a value.
    """
    document = read_json(body)
    mistakes: list[Mistake] = []
    try:
        submission = Submission.model_validate(document)
    except ValidationError as error:
        mistakes += _field_mistakes(error)
    data = document.get("data")
    if isinstance(data, dict):
        mistakes += _file_mistakes(_map(data, "projectFiles"), bounds)
        mistakes += _dependency_mistakes(_map(data, "dependencies"))
        mistakes += _env_mistakes(_map(data, "env"))
    if mistakes:
        raise InvalidRequest(_listed(mistakes))
    return _request(submission)


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`: UTF-8, standard numbers only, unique keys, not deeply nested.

    Raises:
        InvalidRequest: It is anything else.
    """
    try:
        document = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        # The parser's message holds a place, and for a key that comes twice its name; 200 characters are enough of it.
        raise _refused(f"The body must be JSON in UTF-8 without a byte-order mark: {str(error)[:200]}.") from None
    if not isinstance(document, dict):
        raise _refused("The body must be a JSON object.")
    for pointer, fields in (("#", document), ("#/data", document.get("data"))):
        if isinstance(fields, dict) and len(fields) > MAX_FIELDS:
            raise _refused(f"This object has {len(fields):,} fields; at most {MAX_FIELDS} are read.", pointer)
    return document


def _refused(detail: str, pointer: str = "#") -> InvalidRequest:
    return InvalidRequest([Mistake(pointer, detail)])


def _map(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The map called `name`; empty if it is absent or of another kind, which its field's rule reports."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _listed(mistakes: list[Mistake]) -> list[Mistake]:
    if len(mistakes) <= MAX_MISTAKES:
        return mistakes
    return [*mistakes[:MAX_MISTAKES], Mistake("#", f"{len(mistakes) - MAX_MISTAKES:,} more mistakes are not listed.")]


def _request(submission: Submission) -> Request:
    data = submission.data
    return Request(
        type=submission.type,
        priority=submission.priority,
        files=data.project_files,
        chat_id=data.chat_id,
        dependencies={name: packages for name, _, packages in _sections(data.dependencies) if packages},
        command=data.command,
        test_command=data.test_command,
        env=data.env,
        install_scripts=data.install_scripts,
    )


# --- fields -----------------------------------------------------------------------------------------------------------


def _field_mistakes(error: ValidationError) -> Iterator[Mistake]:
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        *parents, name = [str(part) for part in found["loc"]]
        model: type[_Edge] = JobData if parents else Submission
        rules = {field.alias: field.description for field in model.model_fields.values()}
        if found["type"] == "extra_forbidden":
            detail = f"There is no such field here; known are {', '.join(map(str, rules))}."
        elif found["type"] in ("missing", "too_short"):
            detail = f"{name} is {'missing' if found['type'] == 'missing' else 'empty'}: it must be {rules[name]}."
        else:
            detail = f"{name} must be {rules[name]}."
        yield Mistake(_pointer(*parents, name), detail)


def _pointer(*keys: str) -> str:
    """A JSON pointer in its URI form (RFC 6901 §6): plain ASCII whatever the keys hold."""
    return "/".join(["#", *map(_token, keys)])


def _token(key: str) -> str:
    """One step of a pointer; a very long key is cut."""
    shown = key if len(key) <= 200 else key[:200] + "…"
    return quote(shown.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@")


# --- files ------------------------------------------------------------------------------------------------------------

_UNSAFE_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SEGMENT_FAULTS = {
    "": "has an empty segment (two slashes, or one at the end)",
    ".": "has a . segment",
    "..": "has a .. segment",
    "node_modules": "lies in node_modules, which is installed, never taken from a request",
    ".git": "lies in .git, which is never taken from a request",
}


def path_fault(path: str) -> str | None:
    """What keeps `path` from being a canonical relative POSIX path of a project's file; None if nothing does."""
    if not path:
        return "is empty"
    if _UNSAFE_CHARACTER.search(path):
        return "has a control character or a backslash"
    if path[0] == "/" or _DRIVE.match(path):
        return "is absolute"
    segments = path.lower().split("/")
    if len(segments) > MAX_DEPTH or len(path.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES:,} bytes or deeper than {MAX_DEPTH} folders"
    if not _SEGMENT_FAULTS.keys().isdisjoint(segments):
        return next(_SEGMENT_FAULTS[segment] for segment in segments if segment in _SEGMENT_FAULTS)
    return _name_fault(path, segments[-1])


def _name_fault(path: str, lowered_name: str) -> str | None:
    # Only a path that is long in all can hold a segment that is too long.
    if len(path) * 4 > MAX_SEGMENT_BYTES and any(len(name.encode()) > MAX_SEGMENT_BYTES for name in path.split("/")):
        return f"has a segment of more than {MAX_SEGMENT_BYTES} bytes"
    if lowered_name == "package.json" and not path.endswith("package.json"):
        return "is package.json in other letters; write it in lower case"
    return None


def _file_mistakes(files: dict[str, Any], bounds: Bounds) -> Iterator[Mistake]:
    here = "#/data/projectFiles"
    if len(files) > bounds.max_files:
        yield Mistake(here, f"projectFiles has {len(files):,} files; at most {bounds.max_files:,} are accepted.")
        return
    faults = {path: fault for path in files if (fault := path_fault(path))}
    for path, fault in faults.items():
        yield Mistake(f"{here}/{_token(path)}", f"The path {fault}.")
    for path, text in files.items():
        if not isinstance(text, str):
            yield Mistake(f"{here}/{_token(path)}", "The content of a file must be a string.")
    for path in sorted(_folders(path for path in files if path not in faults) & files.keys()):
        yield Mistake(f"{here}/{_token(path)}", "This path is both a file and the folder of another file.")
    total = sum(_utf8_length(text) for text in files.values() if isinstance(text, str))
    if total > bounds.max_project_bytes:
        limit = f"at most {bounds.max_project_bytes:,} are accepted"
        yield Mistake(here, f"The files of projectFiles hold {total:,} bytes in all; {limit}.")


def _folders(paths: Iterator[str]) -> set[str]:
    """Every folder above `paths`."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# --- dependencies -----------------------------------------------------------------------------------------------------

_NAME = re.compile(r"(?:@[A-Za-z0-9][A-Za-z0-9._~-]*/)?[A-Za-z0-9][A-Za-z0-9._~-]*")
_NAMES_TAKEN = {"node_modules", "favicon.ico"}
_NUMBER = r"(?:[xX*]|\d{1,16})"
_PARTIAL = rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_COMPARATOR = rf"(?:\^|~>?|[<>]=?)? ?[v=]? ?{_PARTIAL}"
_RANGE = re.compile(rf"(?:{_PARTIAL} - {_PARTIAL}|(?:{_COMPARATOR}(?: {_COMPARATOR})*)?)")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_ARCHIVES = (".tgz", ".tar", ".tar.gz")
_GRAMMAR = "must be a semver range, a tag, or npm:<name>@<range>"


def package_fault(name: str) -> str | None:
    """What keeps `name` from being a package's name in npm's grammar; None if nothing does."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or name.lower() in _NAMES_TAKEN:
        return f"is not a package name in npm's grammar (at most {MAX_NAME} characters)"
    return None


def version_fault(version: str) -> str | None:
    """What keeps `version` from naming versions in a registry, in npm's grammar; None if nothing does."""
    if len(version) > MAX_VERSION or not (version.isascii() and version.isprintable()):
        return f"must have at most {MAX_VERSION} printable ASCII characters"
    wanted = " ".join(version.split())
    if wanted.startswith("npm:"):
        alias, _, wanted = wanted[4:].rpartition("@") if "@" in wanted[5:] else (wanted[4:], "", "")
        if package_fault(alias):
            return _GRAMMAR
    if ":" in wanted or "/" in wanted or wanted.startswith(".") or wanted.lower().endswith(_ARCHIVES):
        return f"{_GRAMMAR}; git, file, link, workspace and URL sources are not accepted"
    if all(_RANGE.fullmatch(part.strip()) for part in wanted.split("||")) or _TAG.fullmatch(wanted):
        return None
    return _GRAMMAR


def _sections(dependencies: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section, pointer, packages) of both forms. Text under a section's name is a version: the map is flat."""
    here = "#/data/dependencies"
    if any(not isinstance(dependencies.get(section, ""), str) for section in SECTIONS):
        for section, packages in dependencies.items():
            yield section, f"{here}/{_token(section)}", packages
    else:
        yield SECTIONS[0], here, dependencies


def _dependency_mistakes(dependencies: dict[str, Any]) -> Iterator[Mistake]:
    if len(dependencies) > MAX_PACKAGES:
        yield _too_many_packages("#/data/dependencies", dependencies)
        return
    for section, pointer, packages in _sections(dependencies):
        if section not in SECTIONS:
            yield Mistake(pointer, f"Beside {SECTIONS[0]}, only {SECTIONS[1]} and {SECTIONS[2]} are known here.")
        elif not isinstance(packages, dict):
            yield Mistake(pointer, f"{section} must be a map of package names to versions.")
        elif len(packages) > MAX_PACKAGES:
            yield _too_many_packages(pointer, packages)
        else:
            yield from _package_mistakes(pointer, packages)


def _too_many_packages(pointer: str, packages: dict[str, Any]) -> Mistake:
    return Mistake(pointer, f"There are {len(packages):,} packages here; at most {MAX_PACKAGES:,} are accepted.")


def _package_mistakes(pointer: str, packages: dict[str, Any]) -> Iterator[Mistake]:
    for name, version in packages.items():
        if fault := package_fault(name):
            yield Mistake(f"{pointer}/{_token(name)}", f"The name {fault}.")
        if not isinstance(version, str):
            yield Mistake(f"{pointer}/{_token(name)}", "The version of a package must be a string.")
        elif fault := version_fault(version):
            yield Mistake(f"{pointer}/{_token(name)}", f"The version {fault}.")


# --- environment ------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def _env_mistakes(env: dict[str, Any]) -> Iterator[Mistake]:
    here = "#/data/env"
    if len(env) > MAX_VARIABLES:
        yield Mistake(here, f"env has {len(env):,} variables; at most {MAX_VARIABLES} are accepted.")
        return
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            yield Mistake(
                f"{here}/{_token(name)}", "A variable's name has at most 255 letters, digits and underscores."
            )
        if not isinstance(value, str) or "\0" in value:
            yield Mistake(f"{here}/{_token(name)}", "The value of a variable must be a string without NUL.")
    total = sum(_utf8_length(name) + _utf8_length(value) for name, value in env.items() if isinstance(value, str))
    if total > MAX_ENV_BYTES:
        yield Mistake(
            here, f"The variables of env hold {total:,} bytes in all; at most {MAX_ENV_BYTES:,} are accepted."
        )
