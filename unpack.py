"""An archive that a caller sent -> the project in it; tar, tar.gz, zip or a Chef snapshot, told by its first bytes.

Nothing is written to any file system. Every cap holds while the archive is read: an entry beyond it is not unpacked.
Nothing bounds the ratio of compression: what counts is what comes out.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import snapshot
import tarball
from errors import InvalidRequest, Mistake
from paths import path_fault
from tree import Room, Tree, token, too_large, too_many

BLOCK_BYTES = 64 << 10
MAX_LISTED = 50
#: Folders count as entries; an archive may have this many for each file that a project may have.
ENTRIES_PER_FILE = 4
#: Bytes of one entry of a zip's directory: its fixed part, a path, and what tools add.
ZIP_ENTRY_BYTES = 2 << 10
FORMATS = "tar, tar.gz, zip or a Chef snapshot"


class Unreadable(Exception):
    """The archive is broken, or of a kind that is not read; the text says how."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive. `fault` says why it is not a plain file; "" for a file or folder."""

    name: str
    blocks: Iterable[bytes] = ()
    is_folder: bool = False
    fault: str = ""


def unpacked(file: BinaryIO, room: Room, here: str = "#") -> Tree:
    """The project in `file`, which is open for reading and can seek. Mistakes point below `here`.

    Raises:
        InvalidRequest: It is no such archive, a cap is passed, or entries are refused: those are named all at once.
    """
    taken = _Taken(room, here)
    try:
        for entry in _reader(file)(file, room):
            taken.entry(entry)
    except (Unreadable, snapshot.Unreadable, tarball.Unreadable) as error:
        raise InvalidRequest([Mistake(here, f"The archive cannot be read: {error}.")]) from None
    return taken.tree()


class _Taken:
    """What an archive held so far, and what was wrong with it."""

    def __init__(self, room: Room, here: str) -> None:
        self._room = room
        self._here = here
        self._contents: dict[str, bytes] = {}
        self._bytes = 0
        self._entries = 0
        self._mistakes: list[Mistake] = []

    def entry(self, entry: Entry) -> None:
        """Take one entry, or note why not. Raises InvalidRequest once a cap is passed."""
        self._entries += 1
        if self._entries > self._room.files * ENTRIES_PER_FILE:
            most = self._room.files * ENTRIES_PER_FILE
            raise InvalidRequest([Mistake(self._here, f"The archive has more than {most:,} entries.")])
        name = _plain(entry.name)
        if entry.is_folder and not name:
            return
        fault = entry.fault or _name_fault(name) or ("comes twice" if name in self._contents else "")
        if fault:
            self._refuse(name, fault)
        elif not entry.is_folder:
            self._file(name, entry.blocks)

    def tree(self) -> Tree:
        """The project. Raises InvalidRequest."""
        tree = Tree.of(self._contents)
        if not self._mistakes and not self._contents:
            self._mistakes.append(Mistake(self._here, "The archive has no files."))
        if mistakes := [*self._mistakes, *tree.mistakes(self._here, self._room)]:
            raise InvalidRequest(mistakes[: MAX_LISTED + 1])
        return tree

    def _file(self, name: str, blocks: Iterable[bytes]) -> None:
        if len(self._contents) == self._room.files:
            raise InvalidRequest([too_many(self._here, len(self._contents) + 1, self._room)])
        content = bytearray()
        for block in blocks:
            content += block
            if self._bytes + len(content) > self._room.bytes:
                raise InvalidRequest([too_large(self._here, self._bytes + len(content), self._room)])
        self._bytes += len(content)
        self._contents[name] = bytes(content)

    def _refuse(self, name: str, fault: str) -> None:
        if len(self._mistakes) < MAX_LISTED:
            self._mistakes.append(Mistake(f"{self._here}/{token(name)}", f"The entry {fault}."))
        elif len(self._mistakes) == MAX_LISTED:
            self._mistakes.append(Mistake(self._here, "More entries are refused; they are not listed."))


def _plain(name: str) -> str:
    """The name without what tar and zip tools put around every name: a ./ before, a slash after a folder."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return "" if name == "." else name.removesuffix("/")


def _name_fault(name: str) -> str | None:
    if not name:
        return "has no name"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return path_fault(name)


Reader = Callable[[BinaryIO, Room], Iterator[Entry]]


def _reader(file: BinaryIO) -> Reader:
    """What reads this kind of archive. Raises Unreadable."""
    head = file.read(tarball.BLOCK)
    file.seek(0)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return _zip
    if head.startswith(b"\x1f\x8b"):
        return _tar_gz
    if tarball.is_header(head):
        return _tar
    if snapshot.is_snapshot(head):
        return _snapshot
    raise Unreadable(f"it is not {FORMATS}")


# --- tar --------------------------------------------------------------------------------------------------------------


def _tar(file: BinaryIO, room: Room) -> Iterator[Entry]:
    return _members(iter(lambda: file.read(BLOCK_BYTES), b""), room)


def _tar_gz(file: BinaryIO, room: Room) -> Iterator[Entry]:
    return _members(tarball.gunzipped(file), room)


def _members(blocks: Iterator[bytes], room: Room) -> Iterator[Entry]:
    most = room.bytes + room.files * ENTRIES_PER_FILE * tarball.MEMBER_BYTES
    for member in tarball.members(tarball.Stream(blocks, most)):
        yield Entry(member.name, member.blocks, member.is_folder, member.fault)


# --- zip --------------------------------------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2LH")  # of a zip's central directory: its size is the sixth field
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError, OSError,
    OverflowError, IndexError,
)  # fmt: skip


def _zip(file: BinaryIO, room: Room) -> Iterator[Entry]:
    _check_directory(file, room)
    with _zip_errors():
        archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        yield Entry(info.orig_filename, _inflated(archive, info), info.orig_filename.endswith("/"), _zip_fault(info))


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
    try:
        yield
    except _ZIP_ERRORS as error:
        raise Unreadable(f"its zip is broken ({type(error).__name__})") from None


def _check_directory(file: BinaryIO, room: Room) -> None:
    """Refuse a directory that is too large, which the library would hold in memory whole. Raises Unreadable."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - 0xFFFF))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise Unreadable("its zip has no end")
    directory = _END.unpack_from(tail, at)[5]
    if directory > room.files * ENTRIES_PER_FILE * ZIP_ENTRY_BYTES:
        raise Unreadable(f"its zip has more entries than {room.files * ENTRIES_PER_FILE:,}, or a ZIP64 directory")
    file.seek(0)


def _zip_fault(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or device"
    if info.flag_bits & 1:
        return "is encrypted"
    plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return "" if plain else "is compressed in another way than deflate"


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with _zip_errors():
        content = archive.open(info)
    block = None
    while block != b"":
        with _zip_errors():
            block = content.read(BLOCK_BYTES)
        yield block


# --- Chef snapshots ---------------------------------------------------------------------------------------------------


def _snapshot(file: BinaryIO, room: Room) -> Iterator[Entry]:
    most = room.bytes + room.files * ENTRIES_PER_FILE * snapshot.NODE_BYTES
    for name, content in snapshot.files(file.read(), most, room.files * ENTRIES_PER_FILE):
        yield Entry(name, [content] if content is not None else (), fault="" if content is not None else "is no file")
