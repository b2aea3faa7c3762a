"""Who may import whom: the table of docs/design.md, read from the imports themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "docs" / "design.md").read_text()
#: Level -> modules, as the rows of the design's table have them: | level | `module`, `lua/` | ...
LEVELS: dict[int, set[str]] = {}
for row in re.findall(r"^\| (\d) \| ([^|]+) \|", TABLE, re.MULTILINE):
    names = re.findall(r"`([\w/]+)`", row[1])
    LEVELS.setdefault(int(row[0]), set()).update(name.partition("/")[0] for name in names)
LEVEL_OF = {module: level for level, modules in LEVELS.items() for module in modules}
#: Outside libraries with one home each (and the machine, which only looks whether they answer).
HOMES = {
    "redis": {"store", "machine"},
    "docker": {"executor", "machine"},
    "brotli": {"executor"},
    "huey": {"tasks", "consumer"},
    "bottle": {"app", "api"},
    "requests": {"webhook", "outbound", "download", "executor", "stack", "demo"},
    "pydantic_settings": {"config"},
    "structlog": {"logs"},
    "multipart": {"api"},
    "lz4": {"snapshot", "compact"},
    "orjson": {"compact"},
    "msgpack": {"snapshot"},
    "prometheus_client": {"api"},
    "opentelemetry": {"tracing"},
}  # fmt: skip
SOURCES = sorted(
    [*ROOT.glob("*.py"), *ROOT.glob("api/*.py"), *ROOT.glob("executor/**/*.py"), *ROOT.glob("store/**/*.py")]
)


def module_of(source: Path) -> str:
    """The top-level module a file belongs to."""
    return source.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: Path) -> set[str]:
    """Top-level names a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(source: Path) -> None:
    """A module imports only from lower levels; level 1 knows neither config nor its neighbours."""
    module = module_of(source)
    if module == "gunicorn.conf":
        return
    allowed = {name for name, level in LEVEL_OF.items() if level < LEVEL_OF[module]} | {module}
    if LEVEL_OF[module] in {0, 2, 3}:
        allowed |= LEVELS[LEVEL_OF[module]]
    if LEVEL_OF[module] == 1:
        allowed -= {"config"}

    assert imported(source) & set(LEVEL_OF) <= allowed


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_library_has_one_home(source: Path) -> None:
    """Redis, Docker, Huey, Bottle and the HTTP client are each spoken to from one place."""
    strangers = {name for name in imported(source) & set(HOMES) if module_of(source) not in HOMES[name]}

    assert not strangers
