"""Hostile jobs end as they should and harm nobody; `make hostile` runs all of them, the normal tests the quick ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.battery import run
from tests.hostile.ground import Ground, standing
from tests.hostile.items import Item
from tests.hostile.table import ITEMS

#: The first one may have to make the images.
pytestmark = pytest.mark.timeout(300)
RUN = [
    pytest.param(item, id=f"{item.number} {item.what}", marks=pytest.mark.engine if item.quick else pytest.mark.hostile)
    for item in ITEMS
    if not item.cannot
]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A service with everything planted around it."""
    with standing() as made:
        yield made


@pytest.mark.parametrize("item", RUN)
def test_item(ground: Ground, item: Item) -> None:
    """The job ends as its row says, and neighbour, host, engine and secrets are as before."""
    assert run(ground, item).faults == []


def test_every_number_has_a_row() -> None:
    """No item is left out: H01 to H52, and H67, are run or say why not."""
    wanted = {f"H{number:02}" for number in (*range(1, 53), 67)}

    assert wanted <= {item.number for item in ITEMS}
    expected = [item.says or item.unsaid or item.checks or item.refused or item.reason for item in ITEMS]
    assert all(item.cannot or some for item, some in zip(ITEMS, expected, strict=True))
