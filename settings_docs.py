"""docs/configuration.md, made from the settings themselves: python settings_docs.py > docs/configuration.md."""

from __future__ import annotations

import sys
from typing import Any

import config

HEAD = """# Settings

Environment variables, or lines of a `.env` file in the working folder, or of the file that the variable SETTINGS_FILE
names. A variable goes before the same line of the file. A size is a number of bytes, or has k, m or g (powers of 1024).
An empty variable counts as not set. All mistakes are reported together, by name, and end the program with code 2;
`make config` shows what is in effect. Made by `python settings_docs.py > docs/configuration.md`.
"""


def markdown() -> str:
    """The whole page: a section for each group, a row for each variable."""
    return HEAD + "".join(_section(group) for group in config.GROUPS)


def _section(group: Any) -> str:
    title, _, rest = " ".join((group.__doc__ or "").split()).partition(": ")
    rows = "".join(
        f"| `{field.alias}` | {_shown(config.default_text(field))} | {_escaped(field.description or '')} |\n"
        for field in group.model_fields.values()
    )
    return f"\n## {title}\n\n{rest[:1].upper()}{rest[1:]}\n\n| variable | default | meaning |\n|---|---|---|\n{rows}"


def _shown(default: str) -> str:
    return f"`{default}`" if default else ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(markdown())
