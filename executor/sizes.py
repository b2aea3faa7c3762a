"""How large what a build made is, and how large it travels: squeezed by gzip and Brotli while it is kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import brotli

from executor.reports.values import listed
from jobs import Artifact

#: What squeezing takes: about 15 MB a second for gzip and 50 for Brotli at these levels, so two seconds at the most.
MAX_FILE_BYTES = 10 << 20
MAX_ALL_BYTES = 20 << 20
GZIP_LEVEL, BROTLI_QUALITY = 6, 5
#: What web servers squeeze; pictures and fonts are squeezed already.
TEXTS = frozenset(
    {".html", ".htm", ".css", ".js", ".mjs", ".cjs", ".json", ".svg", ".txt", ".xml", ".wasm", ".webmanifest", ".ttf"}
    | {".map", ".md", ".csv", ".ico"}
)

Keep = Callable[[str, Iterable[bytes]], Artifact]


class Sizes:
    """Stands before what keeps files, and measures what passes."""

    def __init__(self, keep: Keep) -> None:
        """`keep` gets every file."""
        self._keep = keep
        self._left = MAX_ALL_BYTES
        self._files: list[dict[str, Any]] = []

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Keep a file. Raises what `keep` raises."""
        squeezed = _Squeezed(min(MAX_FILE_BYTES, self._left) if PurePosixPath(path).suffix.lower() in TEXTS else 0)
        artifact = self._keep(path, squeezed.passing(blocks))
        self._left -= squeezed.taken
        self._files.append({"path": path, "bytes": artifact.size, **squeezed.sizes()})
        return artifact

    def told(self) -> dict[str, Any]:
        """{bytes, gzipBytes, brotliBytes, files}; what was not squeezed counts with its own size in all three."""
        total = {
            name: sum(file.get(name, file["bytes"]) for file in self._files)
            for name in ("bytes", "gzipBytes", "brotliBytes")
        }
        return {**total, **listed("files", self._files, lambda file: "gzipBytes" in file)}


class _Squeezed:
    """One file on its way through both; given up, without an answer, once it is larger than `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gzip = zlib.compressobj(GZIP_LEVEL, wbits=31)
        self._brotli = brotli.Compressor(quality=BROTLI_QUALITY)
        self._gzip_bytes = self._brotli_bytes = 0
        self.taken = 0

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The blocks as they are, measured."""
        for block in blocks:
            if self.taken + len(block) <= self._most:
                self._gzip_bytes += len(self._gzip.compress(block))
                self._brotli_bytes += len(self._brotli.process(block))
            else:
                self._most = 0
            self.taken += len(block) if self._most else 0
            yield block

    def sizes(self) -> dict[str, int]:
        """{gzipBytes, brotliBytes}, or nothing if the file was given up."""
        if not self._most:
            return {}
        return {
            "gzipBytes": self._gzip_bytes + len(self._gzip.flush()),
            "brotliBytes": self._brotli_bytes + len(self._brotli.finish()),
        }
