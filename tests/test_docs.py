"""Documentation that is made from the code, and stays so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobs
import settings_docs
from api.answers import PROBLEMS
from jobs import Reason, ReasonClass

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_diagram_is_the_table() -> None:
    """docs/design.md shows exactly the moves of jobs.TRANSITIONS."""
    assert jobs.diagram() in (ROOT / "docs" / "design.md").read_text()


def test_every_module_is_in_the_level_table() -> None:
    """Each module of ours has a row in the design's table of levels."""
    table = (ROOT / "docs" / "design.md").read_text().split("## The path of a job")[0]

    modules = [path.stem for path in ROOT.glob("*.py") if path.stem != "gunicorn.conf"]
    modules += [f"api/{path.stem}" for path in ROOT.glob("api/*.py") if path.stem != "__init__"]
    for module in modules:
        assert f"`{module}`" in table, f"{module}.py is missing in docs/design.md"


def test_the_settings_page_is_current() -> None:
    """docs/configuration.md is what settings_docs.py writes, and has every variable."""
    assert settings_docs.markdown() == (ROOT / "docs" / "configuration.md").read_text()
    for name in re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE):
        assert f"| `{name}` |" in settings_docs.markdown()


def test_every_symptom_has_a_row() -> None:
    """What the service refuses by its settings or its state, and each fault and limit, is in docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text().partition("## When something is wrong")[2]
    told = {code for code, (status, _) in PROBLEMS.items() if status in {401, 403, 408, 413, 421, 429, 500, 502, 503}}
    told |= {reason for reason in Reason if reason.reason_class in {ReasonClass.INFRASTRUCTURE, ReasonClass.LIMIT}}

    assert {name for name in told if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links_exist(page: Path) -> None:
    """Each `make` target that a page names is one of the Makefile's, and each file that it links is there."""
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    files = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert [link for link in files if link and not (page.parent / link).exists()] == []
