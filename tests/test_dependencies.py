"""What determines an install, which installs are shared, and what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor import dependencies
from executor.dependencies import Tree, filled, key

NPM = ("npm ci --no-audit --no-fund --ignore-scripts",)
BASE = {"dependencies": {"ms": "2.1.3"}, "scripts": {"build": "x"}, "name": "a"}


def key_of(manifest: dict[str, Any] | str | None = None, install: tuple[str, ...] = NPM, **files: str) -> str | None:
    """The key of a project with this manifest, and these other files (a dot in a name is written __)."""
    text = manifest if isinstance(manifest, str) else json.dumps({**BASE, **(manifest or {})})
    others = {name.replace("__", "."): content for name, content in files.items()}
    return key({"package.json": text, **others}, install, "image:1", {})


@pytest.mark.parametrize(
    "same",
    [{"scripts": {"build": "y"}}, {"name": "b"}, {"version": "2"}, {"private": True}, {"description": "d"}],
)
def test_what_no_installer_looks_at(same: dict[str, Any]) -> None:
    """Scripts, name and the like do not make another install; nor do the project's own sources."""
    assert key_of(same) == key_of() == key_of(main__js="let a")


@pytest.mark.parametrize(
    "other",
    [
        {"dependencies": {"ms": "2.1.2"}}, {"devDependencies": {"a": "1"}}, {"overrides": {"a": "1"}},
        {"engines": {"node": "1"}}, {"packageManager": "npm@9"}, {"optionalDependencies": {"a": "1"}},
    ],
)  # fmt: skip
def test_what_determines_it(other: dict[str, Any]) -> None:
    """Everything that an installer may look at makes another install."""
    assert key_of(other) != key_of()
    assert key_of(other) is not None


def test_other_determinants() -> None:
    """Lockfile, .npmrc, commands, image and environment count as well."""
    files = {"package.json": json.dumps(BASE)}
    keys = {
        key_of(),
        key({**files, "package-lock.json": "{}"}, NPM, "image:1", {}),
        key({**files, ".npmrc": "legacy-peer-deps=true"}, NPM, "image:1", {}),
        key(files, ("pnpm install --ignore-scripts",), "image:1", {}),
        key(files, NPM, "image:2", {}),
        key(files, NPM, "image:1", {"npm_config_registry": "x"}),
    }

    assert len(keys) == 6


@pytest.mark.parametrize(
    "manifest",
    [
        "no json", {"workspaces": ["a"]}, {"pnpm": {"patchedDependencies": {}}}, {"patchedDependencies": {"a": "b"}},
        {"dependencies": {"next": "15"}}, {"devDependencies": {"expo": "1"}},
    ],
)  # fmt: skip
def test_not_shared(manifest: Any) -> None:
    """Workspaces, patches, and frameworks that refuse packages outside of the project keep their own install."""
    assert key_of(manifest) is None


@pytest.mark.parametrize("name", dependencies.OTHER_INPUTS)
def test_not_shared_with_programs_of_the_project(name: str) -> None:
    """A file by which a project takes part in its own install keeps that install to itself."""
    assert key({"package.json": json.dumps(BASE), name: ""}, NPM, "image:1", {}) is None


def test_not_shared_with_scripts() -> None:
    """An install that runs the packages' scripts is nobody else's; nor is none."""
    assert key_of(install=("npm ci --no-audit --no-fund",)) is None
    assert key_of(install=()) is None


@pytest.mark.parametrize(
    "said", [b"", b"no json", b"[]", b'{"entries": 5, "size": 1}', b'{"entries": ["../a"], "size": 1}']
)
def test_what_the_filler_says_is_checked(said: bytes) -> None:
    """What cannot be a list of names makes no tree."""
    with pytest.raises(ValueError, match=r"filler|Expecting|canonical|int"):
        filled(said)


def test_links() -> None:
    """Each entry is a link to its place in the tree."""
    entries, size = filled(b'{"entries": [".bin", "@a", "ms"], "size": 7}')
    tree = Tree("0af", "", 3, size, entries, 5)

    assert tree.links["@a"] == "/deps/0af/node_modules/@a"
    assert size == 7
