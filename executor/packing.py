"""The tree that a job leaves, packed into one file that later jobs begin with: plain files only, no link, no device."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator

from executor import archive
from executor.run import Watch
from jobs import Artifact, OutputChunk, Phase

#: What the packed tree is called among the files of its job.
NAME = "tree.tar"
BLOCK_BYTES = 256 << 10


class Packing:
    """A watch that packs what is kept, on this machine's disk; the rest it passes on. A context manager."""

    def __init__(self, watch: Watch) -> None:
        """`watch` gets the packed tree, as one file, at last."""
        self._watch = watch
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> Packing:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def output(self, chunk: OutputChunk) -> None:
        """Pass it on."""
        self._watch.output(chunk)

    def progress(self, percent: int, phase: Phase) -> None:
        """Pass it on."""
        self._watch.progress(percent, phase)

    def stopped(self) -> bool:
        """Ask."""
        return self._watch.stopped()

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Add one file below project/. Its size is known when it is there, so its header is written last."""
        header_at = self._file.tell()
        self._file.write(archive.header(path, 0))
        content_at, digest = self._file.tell(), hashlib.sha256()
        for block in blocks:
            digest.update(block)
            self._file.write(block)
        size = self._file.tell() - content_at
        self._file.write(archive.padding(size))
        self._file.seek(header_at)
        self._file.write(archive.header(path, size))
        self._file.seek(0, 2)
        return Artifact(path, size, digest.hexdigest())

    def hand_over(self) -> Artifact:
        """Give the tree to the watch. Raises what that raises."""
        return self._watch.keep(NAME, self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while block := self._file.read(BLOCK_BYTES):
            yield block
