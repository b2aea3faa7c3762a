"""JSON as it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

import compact

VALUES: list[Any] = [
    {"a": "ü\u2028\x00😀", "b": [1, 2.5, True, None, {}]},
    {"whole": 123456789012345678901234567890, "text": "ü"},
    [],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_inverse(value: Any) -> None:
    """What is written is read as the same, and text stays UTF-8."""
    assert json.loads(compact.dumps(value)) == value
    assert json.loads(compact.canonical(value)) == value
    assert b"\\u00fc" not in compact.dumps(value)


@pytest.mark.parametrize("number", [1, 1 << 80])
def test_order_does_not_count(number: int) -> None:
    """Values that mean the same have one canonical form."""
    assert compact.canonical({"b": {"d": number, "c": 2}, "a": 3}) == compact.canonical(
        {"a": 3, "b": {"c": 2, "d": number}}
    )


@pytest.mark.parametrize("size", [0, 100, compact.PACK_FROM, 1_000_000])
def test_packing(size: int) -> None:
    """Short texts stay as they are, long ones become shorter; both are read back."""
    data = (b'{"a":"' + b"const a = 1;" * size)[:size]

    assert compact.unpacked(compact.packed(data)) == data
    assert (len(compact.packed(data)) < size) == (size >= compact.PACK_FROM)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, b"\xff\xff\xff\x7f" + b"x" * 100])
def test_what_was_never_packed(damage: bytes) -> None:
    """Damage is an error of the kind that a reader of broken records expects."""
    with pytest.raises(ValueError, match="unpacked"):
        compact.unpacked(b"\x04lz4" + damage)
