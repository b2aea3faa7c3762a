"""Reads a tar stream that somebody else made, a block at a time; every step is bounded.

The standard library parses one header of 512 bytes here, and no more: its own loop over extended headers holds
them in memory whole, and takes negative sizes and slow patterns where Python is not the newest.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE
#: What a member may take beside its content: headers, a path, padding.
MEMBER_BYTES = 4 << 10
MAX_EXTENSION_BYTES = 64 << 10
READ_BYTES = 64 << 10
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EMPTY = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_FAULTS = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
    tarfile.GNUTYPE_SPARSE: "is a sparse file",
}


class Unreadable(Exception):
    """The stream is no tar, or ends early, or is too long; the text says which."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `fault` says why it is not a plain file; "" for a file or folder. Read `blocks` before the next."""

    name: str
    blocks: Iterable[bytes]
    is_folder: bool
    fault: str


class Stream:
    """Exact reads from blocks that are cut anywhere, up to a total."""

    def __init__(self, blocks: Iterator[bytes], most: int) -> None:
        """More than `most` bytes are not read."""
        self._blocks = blocks
        self._buffer = b""
        self._left = most

    def read(self, size: int) -> bytes:
        """`size` bytes. Raises Unreadable."""
        return b"".join(self.parts(size))

    def parts(self, size: int) -> Iterator[bytes]:
        """`size` bytes in blocks. Raises Unreadable."""
        while size:
            if not self._buffer:
                self._buffer = self._following()
            if not self._buffer:
                raise Unreadable("it ends too early")
            part, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(part)
            yield part

    def drain(self) -> None:
        """Read to the end, where compression has its checksum. Raises Unreadable."""
        while self._following():
            pass

    def _following(self) -> bytes:
        block = next(self._blocks, b"")
        self._left -= len(block)
        if self._left < 0:
            raise Unreadable("it unpacks to more than a project may hold")
        return block


def is_header(block: bytes) -> bool:
    """True if this can be the first block of a tar."""
    return block[257:262] == b"ustar"


def gunzipped(file: BinaryIO) -> Iterator[bytes]:
    """What one gzip stream holds, in blocks. Raises Unreadable."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    packed = b""
    try:
        while not unpacker.eof:
            packed = unpacker.unconsumed_tail or file.read(READ_BYTES)
            block = unpacker.decompress(packed, READ_BYTES)
            if not (packed or block):
                raise Unreadable("it ends too early")
            if block:
                yield block
    except zlib.error:
        raise Unreadable("its gzip is broken") from None
    if unpacker.unused_data.strip(b"\0") or file.read(READ_BYTES).strip(b"\0"):
        raise Unreadable("more follows after the end of its gzip stream")


def members(stream: Stream) -> Iterator[Member]:
    """All members, in order. Raises Unreadable."""
    named: dict[str, str] = {}
    while (header := _header(stream.read(BLOCK))) is not None:
        size = _size(header, named)
        if header.type in _EXTENSIONS:
            named |= _extension(header.type, _padded(stream, size))
            continue
        if header.type == tarfile.GNUTYPE_LONGLINK:
            _padded(stream, size)
            continue
        fault = _fault(header, named)
        size = 0 if header.type in _EMPTY else size
        content = stream.parts(size)
        yield Member(named.get("path", header.name), content, header.type == tarfile.DIRTYPE, fault)
        for _ in content:
            pass
        stream.read(-size % BLOCK)
        named = {}
    stream.drain()


def _header(block: bytes) -> tarfile.TarInfo | None:
    """One header; None for the block of zeros at the end."""
    if not block.strip(b"\0"):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError):
        raise Unreadable("it has a broken tar header") from None


def _size(header: tarfile.TarInfo, named: dict[str, str]) -> int:
    given = named.get("size", "")
    if given and not re.fullmatch(r"[0-9]{1,15}", given):
        raise Unreadable("it has a size that is no number")
    size = int(given) if given and header.type in _FILES else header.size
    if size < 0:
        raise Unreadable("it has a negative size")
    return size


def _padded(stream: Stream, size: int) -> bytes:
    """An extended header's content."""
    if size > MAX_EXTENSION_BYTES:
        raise Unreadable(f"it has an extended header of more than {MAX_EXTENSION_BYTES:,} bytes")
    return stream.read(size + -size % BLOCK)[:size]


def _extension(kind: bytes, content: bytes) -> dict[str, str]:
    """The fields that count for the next member: its path, its size, and whether it is sparse."""
    if kind == tarfile.XGLTYPE:  # git writes a commit there
        return {}
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    fields = {}
    while content:
        length, _, _ = content[:8].partition(b" ")
        if not length.isdigit() or not len(length) + 2 < int(length) <= len(content):
            raise Unreadable("it has a broken extended header")
        name, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        content = content[int(length) :]
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return {name: value for name, value in fields.items() if name in ("path", "size") or name.startswith("GNU.sparse")}


def _fault(header: tarfile.TarInfo, named: dict[str, str]) -> str:
    if any(name.startswith("GNU.sparse") for name in named):
        return _FAULTS[tarfile.GNUTYPE_SPARSE]
    known = header.type in _FILES or header.type == tarfile.DIRTYPE
    return "" if known else _FAULTS.get(header.type, "is of an unknown kind")
