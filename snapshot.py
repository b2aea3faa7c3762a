"""Reads a Chef snapshot: a four-byte little-endian length, then an LZ4 block of so many bytes, which is MessagePack.

The MessagePack is {"d": {name: node, ...}}, a node another such folder or {"f": {"c": content}}.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lz4.block
import msgpack

PREFIX = 4
#: What a node may take beside its content.
NODE_BYTES = 512
#: A file is an entry of its folder, one called f, and one called c.
PAIRS_PER_NODE = 3
#: How a snapshot's MessagePack begins: a map of one pair, whose key is "d". LZ4 keeps a beginning as it is.
_BEGINNING = b"\x81\xa1d"
#: One token, and up to this many bytes that say how long the beginning is.
_BEFORE = 33
MAX_DEPTH = 32


class Unreadable(Exception):
    """This is no snapshot, or it is too large; the text says which."""


def is_snapshot(head: bytes) -> bool:
    """True if this can be how a snapshot begins."""
    return _BEGINNING in head[PREFIX + 1 : PREFIX + 1 + _BEFORE]


def files(packed: bytes, most: int, most_nodes: int) -> Iterator[tuple[str, bytes | None]]:
    """Path and content of every file, in order; None for what is neither file nor folder.

    At most `most` bytes are unpacked, and about `most_nodes` files and folders.

    Raises:
        Unreadable: As its name says.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), _document(packed, most, most_nodes))]
    while waiting:
        place, node = waiting.pop()
        folder = node.get("d") if isinstance(node, dict) else None
        if not isinstance(folder, dict):
            yield "/".join(place), _content(node)
            continue
        if len(place) > MAX_DEPTH:
            raise Unreadable(f"it is deeper than {MAX_DEPTH} folders")
        for name in sorted(folder, reverse=True):
            if "/" in name:
                raise Unreadable("it has a name with a slash")
            waiting.append(((*place, name), folder[name]))


def _document(packed: bytes, most: int, most_nodes: int) -> Any:
    size = int.from_bytes(packed[:PREFIX], "little")
    if size > most:
        raise Unreadable(f"it unpacks to {size:,} bytes, more than a project may hold")
    try:
        raw = lz4.block.decompress(packed[PREFIX:], uncompressed_size=size)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError, MemoryError):
        raise Unreadable("its LZ4 block is broken") from None
    if len(raw) != size:
        raise Unreadable("its LZ4 block has not the length that it says")
    try:
        # No lists: a few bytes of MessagePack can announce a long one, for which room is made at once.
        caps = {"max_array_len": 0, "max_ext_len": 0, "max_map_len": most_nodes}
        return msgpack.unpackb(raw, **caps, object_pairs_hook=_Maps(most_nodes).unique)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise Unreadable("its MessagePack is broken, or holds what no snapshot does") from None


class _Maps:
    """Takes the maps of a document, counting: each entry needs thirty times the memory of its bytes."""

    def __init__(self, most_nodes: int) -> None:
        self._left = most_nodes * PAIRS_PER_NODE

    def unique(self, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
        """A map whose keys are texts that come once. Raises ValueError."""
        node = dict(pairs)
        self._left -= len(pairs)
        if len(node) != len(pairs) or self._left < 0 or not all(isinstance(name, str) for name in node):
            raise ValueError("no map of a snapshot")
        return node


def _content(node: Any) -> bytes | None:
    file = node.get("f") if isinstance(node, dict) else None
    content = file.get("c") if isinstance(file, dict) else None
    if isinstance(content, str):
        return content.encode()
    return content if isinstance(content, bytes) else None
