"""What is told of the sizes of a build's files."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable

import brotli
import pytest

from executor import sizes
from executor.sizes import BROTLI_QUALITY, GZIP_LEVEL, Sizes
from jobs import Artifact


def keep(path: str, blocks: Iterable[bytes]) -> Artifact:
    content = b"".join(blocks)
    return Artifact(path, len(content), hashlib.sha256(content).hexdigest())


def told(files: dict[str, list[bytes]]) -> dict[str, object]:
    made = Sizes(keep)
    for path, blocks in files.items():
        artifact = made.keep(path, iter(blocks))
        assert artifact.sha256 == hashlib.sha256(b"".join(blocks)).hexdigest()
    return made.told()


def test_sizes_are_those_of_the_tools() -> None:
    """What gzip and Brotli make of the whole file, however it was cut; a picture counts as it is."""
    script = b"export const a = 1\n" * 5_000
    content = {"a.js": [script[:7], script[7:50_000], script[50_000:]], "b.png": [b"\x89PNG" * 100], "c.css": []}

    gzipped = len(gzip.compress(script, GZIP_LEVEL))
    squeezed = len(brotli.compress(script, quality=BROTLI_QUALITY))
    found = told(content)

    files = {file["path"]: file for file in found["files"]}  # type: ignore[attr-defined]
    assert files["a.js"] == {
        "path": "a.js",
        "bytes": 95_000,
        "gzipBytes": gzipped,
        "brotliBytes": files["a.js"]["brotliBytes"],
    }
    assert abs(files["a.js"]["brotliBytes"] - squeezed) < 64
    assert files["b.png"] == {"path": "b.png", "bytes": 400}
    assert files["c.css"]["bytes"] == 0
    assert found["bytes"] == 95_400
    assert found["gzipBytes"] == gzipped + 400 + files["c.css"]["gzipBytes"]


def test_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large is kept and not squeezed, and so is what is over for all files together."""
    monkeypatch.setattr(sizes, "MAX_FILE_BYTES", 1_000)
    monkeypatch.setattr(sizes, "MAX_ALL_BYTES", 1_500)

    found = told({"big.js": [b"x" * 600] * 2, "a.js": [b"x" * 900], "b.js": [b"x" * 900], "c.js": [b"x" * 500]})

    measured = [file["path"] for file in found["files"] if "gzipBytes" in file]  # type: ignore[attr-defined]
    assert measured == ["a.js"]
    assert found["bytes"] == 3_500
