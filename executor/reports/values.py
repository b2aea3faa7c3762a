"""Takes single values out of a report, whatever is there: bounded texts, sane numbers, paths of the project."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

from executor.spec import PROJECT

Entry = dict[str, Any]

MAX_BYTES = 20 << 20
#: JSON of 20 MB can become a gigabyte of objects; these many stay below 200 MB, for a moment.
MAX_VALUES = 2_000_000
MAX_NUMBER = 10**9
MAX_NAME = 300
MAX_PATH = 500
MAX_MESSAGE = 2_000
MAX_ENTRIES = 1_000
#: What the entries of one list may weigh together, as JSON.
MAX_LIST_CHARS = 200_000

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_HERE = re.compile(rf"(?:file://)?{re.escape(PROJECT)}/")


class ReportInvalid(ValueError):
    """A report that cannot be used; the text says why, in words for the caller."""


def bounded(data: bytes) -> bytes:
    """`data`, unless it is too large. Raises ReportInvalid."""
    if len(data) > MAX_BYTES:
        raise ReportInvalid(f"it is larger than {MAX_BYTES >> 20} MB")
    return data


def load(data: bytes) -> Any:
    """JSON as Python values, without not-a-numbers. Raises ReportInvalid."""
    if sum(map(bounded(data).count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ReportInvalid(f"it holds more than {MAX_VALUES:,} values")
    try:
        return json.loads(data, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise ReportInvalid(f"it is not JSON that can be read: {str(error)[:200]}") from error


def load_object(data: bytes) -> Entry:
    """JSON that must be an object. Raises ReportInvalid."""
    found = load(data)
    if not isinstance(found, dict):
        raise ReportInvalid("it is not a JSON object")
    return found


def required(value: Any, name: str) -> Iterator[Entry]:
    """The objects in a list that must be there. Raises ReportInvalid."""
    if not isinstance(value, list):
        raise ReportInvalid(f"it has no list of {name}")
    return objects(value)


def objects(value: Any) -> Iterator[Entry]:
    """The objects in what should be a list of them."""
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def inside(value: Any, *names: str) -> Any:
    """What is found by following `names` down through objects; None if there is nothing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, most: int = MAX_MESSAGE) -> str:
    """Text that can be shown, stored and sent; "" for anything else."""
    if not isinstance(value, str):
        return ""
    # Cut before and after: the rest need not be cleaned, and cleaning makes a text shorter.
    shown = _HERE.sub("", _UNSEEN.sub("", _ESCAPES.sub("", value[: 4 * most])))
    return shown.encode("utf-8", "replace").decode()[:most].strip()


def path(value: Any) -> str:
    """A file's path as the project knows it; one outside of the project stays as it is."""
    shown = text(value, MAX_PATH)
    return posixpath.normpath(shown) if shown else ""


def number(value: Any, most: int = MAX_NUMBER) -> int:
    """A whole number from 0 to `most`; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return most if value >= most else round(value)


def percent(value: Any) -> float | None:
    """A share from 0 to 100 with two digits; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return round(min(100.0, max(0.0, value)), 2)


def share(part: Any, whole: Any) -> float | None:
    """Part of a whole in percent; None if there is no whole."""
    return percent(100 * number(part) / number(whole)) if number(whole) else None


def kept(entries: list[Entry], matters: Callable[[Entry], bool]) -> list[Entry]:
    """As many entries as a result may hold, in their order; those that matter are the last to be left out."""
    left, chosen = MAX_LIST_CHARS, set()
    ranked = sorted(range(len(entries)), key=lambda at: not matters(entries[at]))
    for at in ranked[:MAX_ENTRIES]:
        left -= len(json.dumps(entries[at]))
        if left < 0:
            break
        chosen.add(at)
    return [entries[at] for at in sorted(chosen)]


def listed(name: str, entries: list[Entry], matters: Callable[[Entry], bool]) -> Entry:
    """The list as part of a result: what is kept, and `<name>Cut`, how many are not, if there are any."""
    found = kept(entries, matters)
    cut = len(entries) - len(found)
    return {name: found, **({f"{name}Cut": cut} if cut else {})}
