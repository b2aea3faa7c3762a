"""JSON as the service keeps it for itself: UTF-8 in as few bytes and as little time as may be, long texts packed."""

from __future__ import annotations

import json
from typing import Any

import lz4.block
import orjson

#: What is shorter is not packed: it would not become much shorter, and stays legible in Redis.
PACK_FROM = 4_096
#: Before what is packed. No JSON begins so.
_PACKED = b"\x04lz4"
#: How many bytes one byte of LZ4 can stand for.
_MOST = 255


def dumps(value: Any) -> bytes:
    """A value made of what JSON knows; numbers that no double holds become null, if they are no whole numbers."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def loads(data: bytes) -> Any:
    """The inverse. Raises ValueError."""
    return orjson.loads(data)


def canonical(value: Any) -> bytes:
    """The same for values that mean the same: the order of keys does not count. For digests."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def packed(data: bytes) -> bytes:
    """Long JSON as LZ4, which takes 0.2 ms for 100 KB of source code and saves more on the way to Redis and in it."""
    return _PACKED + lz4.block.compress(data) if len(data) >= PACK_FROM else data


def unpacked(kept: bytes) -> bytes:
    """The inverse, of what never was packed too. Raises ValueError for what packed() never makes."""
    if not kept.startswith(_PACKED):
        return kept
    block = kept[len(_PACKED) :]
    if int.from_bytes(block[:4], "little") > len(block) * _MOST:
        raise ValueError("this cannot be unpacked: it says that it is longer than that")
    try:
        return bytes(lz4.block.decompress(block))
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise ValueError(f"this cannot be unpacked: {error}") from None
