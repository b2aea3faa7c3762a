"""Packages that installs share: which an install can use, what of a hostile workspace is taken, and what is offered."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from executor import gather, parcels
from executor.installers import BUN, NPM, PNPM, YARN
from executor.parcels import Parcel, gathered, may_add, offered, wanted

INSTALL = NPM.install(locked=False, scripts=False)


def digest_of(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def integrity(content: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def locked(*contents: bytes, **more: str) -> str:
    """A lockfile of packages with these tarballs."""
    packages = {f"node_modules/p{at}": {"integrity": integrity(each), **more} for at, each in enumerate(contents)}
    return json.dumps({"lockfileVersion": 3, "packages": packages})


class Workspace:
    """A job's, after its install."""

    def __init__(self, root: Path) -> None:
        self.root = root / "workspace"
        self.target = root / "parcel"
        self.lockfile = self.root / "project/node_modules/.package-lock.json"
        self.lockfile.parent.mkdir(parents=True)

    def place(self, digest: str) -> Path:
        return self.root / parcels.CONTENT / digest[:2] / digest[2:4] / digest[4:]

    def holds(self, *contents: bytes) -> None:
        """npm installed packages with these tarballs."""
        self.lockfile.write_text(locked(*contents))
        for content in contents:
            self.put(content)

    def put(self, content: bytes, name: str = "") -> Path:
        """A file of npm's cache, called by its digest unless another name is given."""
        path = self.place(name or digest_of(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def gathered(self, capsys: pytest.CaptureFixture[str], most: int = 1_000, *earlier: Path) -> dict[str, Any]:
        """What the gatherer says, which is to be what it left."""
        places = {"root": str(self.root), "target": str(self.target), "content": parcels.CONTENT}
        gather.main({**places, "most": most, "earlier": list(map(str, earlier))})
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        there = {path.name: path.read_bytes() for path in self.target.iterdir()} if self.target.exists() else {}
        assert {name: digest_of(content) for name, content in there.items()} == {name: name for name in there}
        assert {name: len(content) for name, content in there.items()} == said["taken"]
        return said


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_what_was_loaded_is_taken(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Tarballs that npm installed are copied, for everybody to read and nobody to write; other content is not."""
    workspace.holds(b"one", b"two")
    workspace.put(b"a packument")
    said = workspace.gathered(capsys)

    assert said == {"taken": {digest_of(b"one"): 3, digest_of(b"two"): 3}, "known": []}
    assert {path.stat().st_mode & 0o777 for path in workspace.target.iterdir()} == {0o444}


def test_what_is_there_already(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an earlier parcel has is told, and not copied again, whether npm used a link to it or loaded it; one that
    was removed meanwhile has nothing.
    """
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for content in (b"linked", b"loaded", b"unused"):
        (earlier / digest_of(content)).write_bytes(content)
    workspace.holds(b"linked", b"loaded", b"new")
    workspace.place(digest_of(b"linked")).unlink()
    workspace.place(digest_of(b"linked")).symlink_to(earlier / digest_of(b"linked"))
    said = workspace.gathered(capsys, 1_000, earlier, tmp_path / "removed")

    assert said == {"taken": {digest_of(b"new"): 3}, "known": [digest_of(b"linked"), digest_of(b"loaded")]}


def test_forged(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Content under another's digest is not taken, and leaves nothing behind; no folder is made for nothing."""
    workspace.holds(b"real")
    workspace.put(b"evil", name=digest_of(b"real"))

    assert workspace.gathered(capsys) == {"taken": {}, "known": []}
    assert not workspace.target.exists()


def test_odd_files(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links, also of folders, pipes and folders are passed over; nothing outside of the workspace is read."""
    contents = [b"link", b"folder link", b"pipe", b"folder", b"good"]
    workspace.holds(*contents)
    outside = tmp_path / "outside"
    outside.mkdir()
    link, inner, pipe, folder, _ = (workspace.place(digest_of(each)) for each in contents)
    for path in (link, pipe, folder):
        path.unlink()
    (outside / link.name).write_bytes(b"link")
    link.symlink_to(outside / link.name)
    inner.parent.rename(outside / "inner")
    inner.parent.symlink_to(outside / "inner")
    os.mkfifo(pipe)
    folder.mkdir()

    assert workspace.gathered(capsys)["taken"] == {digest_of(b"good"): 4}


@pytest.mark.parametrize("lockfile", ["link", "pipe", "garbage", "none"])
def test_odd_lists(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], lockfile: str) -> None:
    """A list of what was installed that is no list, or is elsewhere, leads to nothing."""
    workspace.holds(b"one")
    real = workspace.lockfile.rename(tmp_path / "real")
    if lockfile == "link":
        workspace.lockfile.symlink_to(real)
    elif lockfile == "pipe":
        os.mkfifo(workspace.lockfile)
    elif lockfile == "garbage":
        workspace.lockfile.write_bytes(b"\xff sha512-AAAA==")

    assert workspace.gathered(capsys)["taken"] == {}


def test_no_more_than_was_loaded(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is taken is no more than the install received, so that made-up content gains nothing."""
    workspace.holds(b"12345", b"123456789", b"1234")

    assert workspace.gathered(capsys, 10)["taken"] == {digest_of(b"12345"): 5, digest_of(b"1234"): 4}


@pytest.mark.parametrize("size", [0, 3, 1_000])
def test_a_file_that_changes_its_size(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Of a file no more is read than it had when it was opened, however it grows meanwhile."""
    monkeypatch.setattr(gather, "BLOCK", 2)
    path = workspace.put(b"whole")
    root = os.open(workspace.root, os.O_RDONLY)
    blocks = gather.blocks(root, str(path.relative_to(workspace.root)), 5)
    first = next(blocks)
    os.truncate(path, size)
    rest = b"".join(blocks)
    os.close(root)

    assert first == b"wh"
    assert len(rest) == min(3, max(0, size - 2))


@pytest.mark.parametrize(
    "said",
    [
        b"", b"[]", b"{}", b'{"taken": {}}', b'{"taken": [], "known": []}', b'{"taken": {"../a": 1}, "known": []}',
        b'{"taken": {}, "known": ["a"]}', b'{"taken": {}, "known": 5}',
    ],
)  # fmt: skip
def test_what_the_gatherer_says_is_checked(said: bytes) -> None:
    """What cannot be digests makes no parcel."""
    with pytest.raises(ValueError, match=r"gatherer|Expecting"):
        gathered(said)


def parcel(folder: str, *contents: bytes) -> Parcel:
    tarballs = {digest_of(content): len(content) for content in contents}
    return Parcel(folder, "", 3, sum(tarballs.values()), tarballs)


def test_offered_is_what_is_named() -> None:
    """An install gets links to what its lockfile names, from whichever parcel; without one, to everything."""
    kept = [parcel("new", b"c", b"dd"), parcel("old", b"a", b"b")]
    named = offered(kept, frozenset({digest_of(b"a"), digest_of(b"dd"), digest_of(b"elsewhere")}))
    a, dd = digest_of(b"a"), digest_of(b"dd")

    assert named.links == {
        f"{a[:2]}/{a[2:4]}/{a[4:]}": f"/deps/old/{a}", f"{dd[:2]}/{dd[2:4]}/{dd[4:]}": f"/deps/new/{dd}",
    }  # fmt: skip
    assert named.size == 3
    assert len(offered(kept, None).links) == 4
    assert offered([], None).links == {}


def test_offered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used last comes first."""
    monkeypatch.setattr(parcels, "MAX_LINKS", 2)
    found = offered([parcel("new", b"c", b"d"), parcel("old", b"a")], None)

    assert {target.split("/")[2] for target in found.links.values()} == {"new"}
    assert found.size == 2


ADDRESS = "https://registry.example/p.tgz"


@pytest.mark.parametrize(
    ("files", "install", "expected"),
    [
        ({}, INSTALL, None),
        ({"package-lock.json": locked(b"a", resolved=ADDRESS)}, INSTALL, {digest_of(b"a")}),
        ({"package-lock.json": locked(b"a")}, INSTALL, set()),
        ({"package-lock.json": "no json"}, INSTALL, set()),
        ({"package-lock.json": locked(b"a", resolved=ADDRESS), "npm-shrinkwrap.json": locked(b"b", resolved=ADDRESS)},
         INSTALL, {digest_of(b"b")}),
        ({}, (), set()),
        ({}, PNPM.install(locked=False, scripts=False), set()),
        ({}, YARN.install(locked=False, scripts=False), set()),
        ({}, BUN.install(locked=False, scripts=False), set()),
    ],
)  # fmt: skip
def test_what_an_install_can_use(files: Mapping[str, str], install: tuple[str, ...], expected: set[str] | None) -> None:
    """npm asks its cache only if it knows integrity and address; other tools have no use for it."""
    assert wanted(files, install) == expected


def test_whose_packages_are_kept() -> None:
    """Those of npm, if no package's script ran."""
    assert may_add(NPM.install(locked=True, scripts=False))
    assert not may_add(NPM.install(locked=True, scripts=True))
    assert not may_add(PNPM.install(locked=True, scripts=False))
    assert not may_add(())
