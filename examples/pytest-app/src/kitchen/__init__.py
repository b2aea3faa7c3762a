"""Scales recipes, and says how long they take."""

from datetime import timedelta
from importlib.metadata import version

import humanize

VERSION = version("kitchen")


def scale(amounts: dict[str, float], servings: int, wanted: int) -> dict[str, float]:
    """The amounts for another number of servings."""
    if servings < 1 or wanted < 1:
        raise ValueError("there is no meal for less than one")
    return {name: amount * wanted / servings for name, amount in amounts.items()}


def spoken(minutes: int) -> str:
    """A time as one says it."""
    if minutes == 0:
        return "no time at all"
    return humanize.precisedelta(timedelta(minutes=minutes))
