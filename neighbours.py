"""What a neighbouring release wrote: the words and fields that this one does not know are left as they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar

Word = TypeVar("Word", bound=StrEnum)


def word(kind: type[Word], text: str) -> Word:
    """The member that `text` names, or one that stands outside of the list: it is shown, and equal to itself alone."""
    try:
        return kind(text)
    except ValueError:
        stranger = str.__new__(kind, text)
        stranger._name_ = stranger._value_ = text
        return stranger


def known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that are fields of a dataclass."""
    names = _names(kind)
    return {name: value for name, value in values.items() if name in names}


@functools.cache
def _names(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))
