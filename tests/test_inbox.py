"""Projects that are kept ahead of their jobs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from errors import StorageFailed
from inbox import LEAST_BYTES, Inbox, UploadNotFound, UploadsFull
from tree import Tree

TREE = Tree({"a": "é\0"}, {"b": "/w=="})


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "uploads", keep_s=100, most_bytes=10 * LEAST_BYTES)


def age(folder: Path, seconds: float) -> None:
    for path in (folder / "uploads").iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_kept_and_given_back(inbox: Inbox) -> None:
    """A project comes back as it was, to whoever knows its id, until it expires."""
    kept = inbox.keep(TREE)

    assert inbox.tree(kept.id) == TREE
    assert abs(kept.expires_ms / 1000 - time.time() - 100) < 5


@pytest.mark.parametrize("name", ["", "upload-1", "upload-" + "0" * 32, "../../etc/passwd", "upload-" + "G" * 32])
def test_unknown(inbox: Inbox, name: str) -> None:
    """Anything else is not there, in words without a path."""
    with pytest.raises(UploadNotFound) as caught:
        inbox.tree(name)
    assert "/" not in str(caught.value)


def test_expiry(inbox: Inbox, tmp_path: Path) -> None:
    """An upload that is too old is gone at once, and its file with the next sweep; younger ones stay."""
    old = inbox.keep(TREE)
    age(tmp_path, 101)
    young = inbox.keep(TREE)

    with pytest.raises(UploadNotFound, match="older than"):
        inbox.tree(old.id)
    assert inbox.sweep() == 1
    assert inbox.tree(young.id) == TREE
    assert inbox.sweep() == 0


def test_drafts(inbox: Inbox, tmp_path: Path) -> None:
    """A draft is gone when its request is over, and the sweep takes what a crash left."""
    with inbox.draft() as file:
        file.write(b"x")
    assert list((tmp_path / "uploads").iterdir()) == []
    (tmp_path / "uploads" / ".draft-crashed").touch()
    age(tmp_path, 601)

    assert inbox.sweep() == 1


def test_quota(inbox: Inbox) -> None:
    """All uploads together have a bound; a small one counts as a block of the disk."""
    for _ in range(10):
        with inbox.draft():
            inbox.keep(TREE)

    assert inbox.used_bytes() == 10 * LEAST_BYTES
    with pytest.raises(UploadsFull, match="40,960 bytes of the 40,960"), inbox.draft():
        pass


def test_no_disk(tmp_path: Path) -> None:
    """A disk that fails is said in words of ours."""
    (tmp_path / "file").touch()
    inbox = Inbox(tmp_path / "file" / "uploads", 100, 1 << 20)

    with pytest.raises(StorageFailed):
        inbox.keep(TREE)


def test_nothing_yet(tmp_path: Path) -> None:
    """A folder that is not there yet holds nothing."""
    assert Inbox(tmp_path / "none", 1, 1).sweep() == 0
