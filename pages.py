"""A built site among a job's artifacts: which file an address means, and texts for a site that is not at the root."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

INDEX = "index.html"
#: Quotes, and what else stands before an address in HTML, CSS and JavaScript; then a path from the root.
_PATH = re.compile(r"""(["'`(=,\s])/([^"'`()\s,?#<>\\/][^"'`()\s,?#<>\\]*)""")
#: Addresses of a page's own attributes, which may also name routes that are no files.
_ATTRIBUTE = re.compile(r"""(\s(?:href|src|action|poster)=["']?)/(?!/)""", re.IGNORECASE)
#: How Vite puts the root before files that it loads later.
_VITE_BASE = re.compile(
    r"""(modulepreload["'`],[\w$]+=(?:function\([\w$]+\)\{return\s*|\(?[\w$]+\)?=>))(["'`])/\2(?=\+)"""
)
TEXTS = (".html", ".htm", ".css", ".js", ".mjs", ".webmanifest")


class NoPage(ValueError):
    """There is nothing among the artifacts that a browser could show."""


class Site:
    """The site of one job: the folder of the uppermost index.html, and all below."""

    def __init__(self, paths: Collection[str]) -> None:
        """`paths` are the artifacts'. Raises NoPage."""
        pages = [path for path in paths if path == INDEX or path.endswith("/" + INDEX)]
        if not pages:
            raise NoPage(f"There is no {INDEX} among the artifacts.")
        entry = min(pages, key=lambda path: (path.count("/"), path))
        self.root = entry.removesuffix(INDEX)
        self._files = {path.removeprefix(self.root) for path in paths if path.startswith(self.root)}

    def file(self, path: str, *, navigates: bool) -> str | None:
        """The artifact that the address `path` below the site means; None: there is none.

        A page that is no file belongs to the site's own router when a person goes there (`navigates`).
        """
        candidates = [path, path.rstrip("/") + "/" + INDEX if path else INDEX, path + ".html"]
        found = next((self.root + each for each in candidates if each in self._files), None)
        return found or (self.root + INDEX if navigates else None)

    def moved(self, path: str, text: str, prefix: str) -> str:
        """The text of the file `path`, so that it works below `prefix` (which begins and ends with /), not at /."""

        def put(match: re.Match[str]) -> str:
            is_file = unquote(match[2]) in self._files
            return f"{match[1]}{prefix}{match[2]}" if is_file else match[0]

        if path.endswith((".html", ".htm")):
            text = _ATTRIBUTE.sub(rf"\1{prefix}", text)
        return _VITE_BASE.sub(rf"\1\2{prefix}\2", _PATH.sub(put, text))
