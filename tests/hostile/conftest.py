"""The long rows run when they are asked for (-m hostile, make hostile), not whenever nobody says otherwise."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselected, and counted as such: with a marker expression that does not know them they would take minutes."""
    asked = "hostile" in config.option.markexpr.replace("not hostile", "") or "::" in "".join(config.args)
    long = [item for item in items if item.get_closest_marker("hostile")]
    if long and not asked:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
