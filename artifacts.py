"""The files that jobs made: kept under names of ours, never under theirs.

`root/<job id>/<fence>/<sha256>` is one file of one attempt; its path in the project is data in the job's record. When
keep() has returned, the file survives a power cut: content and folder are synced (0.6 ms a file on a local disk), so a
job never ends as completed with artifacts that are not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from errors import ArtifactNotFound, JobNotFound, StorageFailed
from jobs import Artifact, is_id

BLOCK_BYTES = 256 << 10


class Shelf:
    """All artifacts below one folder. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        """`root` is made when the first file is kept."""
        self._root = root

    def open(self, job_id: str, fence: int) -> Writer:
        """A writer into an empty folder for this attempt; what a crash left of the same attempt is removed.

        Raises:
            JobNotFound: `job_id` is no job id.
            StorageFailed: The disk is full or fails.
        """
        folder = self._attempt(job_id, fence)
        with _disk_errors("cannot make room for artifacts"):
            _remove(folder)
            folder.mkdir(parents=True)
            for parent in (folder.parent, self._root, self._root.parent):
                _sync(parent)
        return Writer(folder)

    def link(self, job_id: str, fence: int, writer: Writer, artifacts: Iterable[Artifact]) -> None:
        """Let a writer's attempt have files of another job as well: the same bytes on the disk, under both.

        Raises:
            JobNotFound: `job_id` is no job id.
            ArtifactNotFound: One of them is gone.
            StorageFailed: The disk is full or fails.
        """
        writer.take([self._file(job_id, fence, artifact.sha256) for artifact in artifacts])

    def open_file(self, job_id: str, fence: int, sha256: str) -> BinaryIO:
        """One file's content, open for reading.

        Raises:
            JobNotFound: `job_id` is no job id.
            ArtifactNotFound: The attempt has no such file.
            StorageFailed: The disk fails.
        """
        path = self._file(job_id, fence, sha256)
        with _disk_errors("cannot read an artifact"):
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise ArtifactNotFound(f"{job_id} has no file {sha256}") from None

    def tar_gz(self, job_id: str, fence: int, artifacts: Sequence[Artifact]) -> Iterator[bytes]:
        """A gzip'd tar of `artifacts`, named and ordered as listed, in blocks; the same files give the same bytes.

        All files are looked for first: an error after the first block is a file removed meanwhile.

        Raises:
            JobNotFound, ArtifactNotFound: As open_file().
            StorageFailed: The disk fails, or a file has not the size it is listed with.
            ValueError: A path could lead out of the folder that the archive is unpacked in, or is no valid Unicode.
        """
        self._check(job_id, fence, artifacts)
        return _gzip(self._tar(job_id, fence, artifacts))

    def zip(self, job_id: str, fence: int, artifacts: Sequence[Artifact]) -> Iterator[bytes]:
        """The same as a zip, in which a backslash of a name is %5C: some programs would take it for a folder's end."""
        self._check(job_id, fence, artifacts)
        return self._zip(job_id, fence, artifacts)

    def free_bytes(self) -> int:
        """Room on the disk that keeps the artifacts. Raises StorageFailed."""
        with _disk_errors("cannot ask for the disk's room"):
            try:
                return shutil.disk_usage(self._root).free
            except FileNotFoundError:  # nothing was kept yet
                return shutil.disk_usage(next(path for path in self._root.absolute().parents if path.exists())).free

    def remove(self, job_id: str) -> None:
        """Remove everything of a job; nothing to remove is fine. Raises JobNotFound, StorageFailed."""
        folder = self._job(job_id)
        with _disk_errors("cannot remove artifacts"):
            for attempt in _entries(folder):
                _remove(attempt)
            _remove(folder)

    def remove_attempts_except(self, job_id: str, fence: int) -> None:
        """Remove what other attempts of a job left. Raises JobNotFound, StorageFailed."""
        kept = self._attempt(job_id, fence)
        with _disk_errors("cannot remove artifacts"):
            for attempt in _entries(kept.parent):
                if attempt != kept:
                    _remove(attempt)

    def _job(self, job_id: str) -> Path:
        if not is_id(job_id):
            raise JobNotFound("not a job id")
        return self._root / job_id

    def _attempt(self, job_id: str, fence: int) -> Path:
        return self._job(job_id) / f"{fence:d}"

    def _file(self, job_id: str, fence: int, sha256: str) -> Path:
        folder = self._attempt(job_id, fence)
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ArtifactNotFound("not a sha256")
        return folder / sha256

    def _check(self, job_id: str, fence: int, artifacts: Sequence[Artifact]) -> None:
        for artifact in artifacts:
            _refuse_wandering(artifact.path)
            with self.open_file(job_id, fence, artifact.sha256) as file:
                size = os.fstat(file.fileno()).st_size
            if size != artifact.size:
                raise StorageFailed(f"{artifact.sha256} of {job_id} has {size} bytes instead of {artifact.size}")

    def _zip(self, job_id: str, fence: int, artifacts: Sequence[Artifact]) -> Iterator[bytes]:
        out = _Outbox()
        with zipfile.ZipFile(out, "w") as archive:  # type: ignore[call-overload]  # it writes and flushes, no more
            for artifact in artifacts:
                entry = zipfile.ZipInfo(artifact.path.replace("\\", "%5C"))  # its moment is 1980
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
                with self.open_file(job_id, fence, artifact.sha256) as file, archive.open(entry, "w") as member:
                    for block in _blocks(file):
                        member.write(block)
                        yield out.taken()
        yield out.taken()

    def _tar(self, job_id: str, fence: int, artifacts: Sequence[Artifact]) -> Iterator[bytes]:
        for artifact in artifacts:
            header = tarfile.TarInfo(artifact.path)
            header.size = artifact.size
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
            with self.open_file(job_id, fence, artifact.sha256) as file:
                yield from _blocks(file)
            yield bytes(-artifact.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


class Writer:
    """Takes the files of one attempt. As a context manager it discards them when left by an exception."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists and is empty."""
        self._folder = folder

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Store one file that the job calls `path`, never holding more than a block of it; equal content takes no room.

        When `blocks` raises, nothing of the file stays.

        Raises:
            StorageFailed: The disk is full or fails, or the attempt's folder was removed.
        """
        # A name of its own for each call, so that threads may keep files at the same time.
        draft = self._folder / f".{secrets.token_hex(8)}"
        try:
            size, sha256 = _write(draft, blocks)
            with _disk_errors("cannot keep an artifact"):
                draft.replace(self._folder / sha256)
                _sync(self._folder)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return Artifact(path, size, sha256)

    def take(self, files: Iterable[Path]) -> None:
        """Have these files of another attempt as well. Raises ArtifactNotFound, StorageFailed."""
        with _disk_errors("cannot keep an artifact"):
            for file in files:
                try:
                    os.link(file, self._folder / file.name)
                except FileExistsError:  # listed twice, under two paths
                    continue
                except FileNotFoundError:
                    raise ArtifactNotFound(f"{file.name} is gone") from None
            _sync(self._folder)

    def discard(self) -> None:
        """Remove all files of this attempt. Raises StorageFailed."""
        with _disk_errors("cannot remove artifacts"):
            _remove(self._folder)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            # What cannot be removed now goes with the job; the exception under way matters more.
            with contextlib.suppress(StorageFailed):
                self.discard()


class _Outbox:
    """What the zip library writes into, and we send on; it cannot seek, and so nothing is corrected afterwards."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, block: bytes) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        """What was written since the last call."""
        blocks, self._blocks = self._blocks, []
        return b"".join(blocks)


def _write(draft: Path, blocks: Iterable[bytes]) -> tuple[int, str]:
    """Size and sha256 (hex) of what is now on the disk."""
    digest = hashlib.sha256()
    size = 0
    doing = "cannot keep an artifact"
    with _disk_errors(doing):
        file = draft.open("xb", buffering=0)
    with file:
        # Only our own calls are inside _disk_errors: what `blocks` raises is not the disk's doing.
        for block in blocks:
            with _disk_errors(doing):
                size += _write_all(file, block)
            digest.update(block)
        with _disk_errors(doing):
            os.fsync(file.fileno())
    return size, digest.hexdigest()


def _write_all(file: io.FileIO, block: bytes) -> int:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]
    return len(block)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _gzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """`blocks` as one gzip stream; its header holds no moment and no name."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()


def _refuse_wandering(path: str) -> None:
    if b"\0" in path.encode() or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"not a plain relative path: {path!r}")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _remove(folder: Path) -> None:
    """Remove a folder, if it is there. It loses its name first, so that a stale attempt cannot add to it meanwhile."""
    nameless = folder.with_name(f".{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(nameless)
    # Again when another process, removing the same, was quicker with some of it.
    while nameless.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(nameless)


def _sync(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    """Say an OSError in our words; file names of the disk stay out of what callers may show."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{doing}: {error.strerror or type(error).__name__}") from error
