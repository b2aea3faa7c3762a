"""Projects that were sent ahead of the jobs that use them: kept for a while, under names of ours, within a quota.

`root/upload-<32 hex digits>` is one project, as JSON of a checked tree; the archive that it came in is not kept. The
file's time of change says when it expires. Whoever knows an id may use it, so ids are secrets of 128 bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from errors import ChefError, StorageFailed
from tree import Tree

#: What a file of any size takes on a disk, and what bounds their number.
LEAST_BYTES = 4 << 10
#: A draft is a request's; none takes so long.
DRAFT_S = 600.0


class UploadNotFound(ChefError):
    """There is no such upload, or it has expired."""

    code = "source_not_found"


class UploadsFull(ChefError):
    """The quota of all uploads together is used up."""

    code = "uploads_full"


@dataclass(frozen=True, slots=True)
class Upload:
    """One project that is kept: its id, and when it expires (Unix ms)."""

    id: str
    expires_ms: int


class Inbox:
    """All uploads below one folder. Any number of processes may use it at once."""

    def __init__(self, root: Path, keep_s: float, most_bytes: int) -> None:
        """`root` is made when it is needed. A project is kept for `keep_s` seconds, all of them up to `most_bytes`."""
        self._root = root
        self._keep_s = keep_s
        self._most_bytes = most_bytes

    @contextlib.contextmanager
    def draft(self) -> Iterator[IO[bytes]]:
        """A nameless file for an archive that is arriving; it is gone at the end.

        Raises:
            UploadsFull: There is no room for another upload.
            StorageFailed: The disk fails.
        """
        used = self.used_bytes()
        if used >= self._most_bytes:
            raise UploadsFull(
                f"Uploads take {used:,} bytes of the {self._most_bytes:,} that they may; the oldest go as they expire."
            )
        with _disk_errors(), tempfile.NamedTemporaryFile(dir=self._made(), prefix=".draft-") as file:
            yield file

    def keep(self, tree: Tree) -> Upload:
        """Keep a checked project. Raises StorageFailed."""
        upload = "upload-" + secrets.token_hex(16)
        with _disk_errors():
            draft = self._made() / f".draft-{upload}"
            draft.write_text(json.dumps({"files": tree.files, "binary": tree.binary}))
            draft.replace(self._root / upload)
        return Upload(upload, int((time.time() + self._keep_s) * 1000))

    def tree(self, upload: str) -> Tree:
        """The project of an upload. Raises UploadNotFound, StorageFailed."""
        if not re.fullmatch(r"upload-[0-9a-f]{32}", upload):
            raise UploadNotFound("not an upload's id")
        with _disk_errors(), contextlib.suppress(FileNotFoundError):
            path = self._root / upload
            if time.time() - path.stat().st_mtime < self._keep_s:
                stored = json.loads(path.read_bytes())
                return Tree(stored["files"], stored["binary"])
        hours = f"{self._keep_s / 3600:g}"
        raise UploadNotFound(f"there is no such upload, or it is older than {hours} hours")

    def used_bytes(self) -> int:
        """What all uploads take, drafts included."""
        return sum(max(size, LEAST_BYTES) for _, size, _ in self._entries())

    def sweep(self) -> int:
        """Remove what has expired and what a crash left; how many files went."""
        now, removed = time.time(), 0
        for path, _, changed_s in self._entries():
            if now - changed_s > (DRAFT_S if path.name.startswith(".") else self._keep_s):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _made(self) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._root

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """Path, size and time of change (Unix s) of every file."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield Path(entry.path), found.st_size, found.st_mtime


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"the disk that keeps uploads: {error.strerror or type(error).__name__}") from error
