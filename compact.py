"""JSON as the service keeps it for itself: UTF-8 in as few bytes, and as little time, as may be."""

from __future__ import annotations

import json
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """A value made of what JSON knows; numbers that no double holds become null, if they are no whole numbers."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def canonical(value: Any) -> bytes:
    """The same for values that mean the same: the order of keys does not count. For digests."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
