"""Archives as tests make them: whole ones, and ones that no tool would make."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import lz4.block
import msgpack


def tar(files: Mapping[str, bytes], *more: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of `files`, then of bare headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in more:
            archive.addfile(entry)
    return out.getvalue()


def tar_gz(files: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """The same, packed."""
    return gzip.compress(tar(files, *more), mtime=0)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A header that is no file's."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def zipped(
    files: Mapping[str, bytes], links: Mapping[str, str] | None = None, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A zip of `files` and of symbolic links."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return out.getvalue()


def nodes(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The tree of a snapshot, as Chef's WebContainer writes it."""
    root: dict[str, Any] = {"d": {}}
    for path, content in files.items():
        folder = root
        *above, name = path.split("/")
        for part in above:
            folder = folder["d"].setdefault(part, {"d": {}})
        folder["d"][name] = {"f": {"c": content}}
    return root


def snapshot(tree: Any, size: int | None = None) -> bytes:
    """A snapshot of any value; `size` is what its prefix says, if that is a lie."""
    raw = msgpack.packb(tree) if not isinstance(tree, bytes) else tree
    packed: bytes = lz4.block.compress(raw, store_size=False)
    return (len(raw) if size is None else size).to_bytes(4, "little") + packed
