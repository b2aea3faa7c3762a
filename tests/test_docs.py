"""Documentation that is made from the code, and stays so."""

from __future__ import annotations

from pathlib import Path

import jobs

ROOT = Path(__file__).parent.parent


def test_the_diagram_is_the_table() -> None:
    """docs/design.md shows exactly the moves of jobs.TRANSITIONS."""
    assert jobs.diagram() in (ROOT / "docs" / "design.md").read_text()


def test_every_module_is_in_the_level_table() -> None:
    """Each module of ours has a row in the design's table of levels."""
    table = (ROOT / "docs" / "design.md").read_text().split("## The path of a job")[0]

    for module in [path.stem for path in ROOT.glob("*.py") if path.stem != "gunicorn.conf"]:
        assert f"`{module}`" in table, f"{module}.py is missing in docs/design.md"
