"""Project files -> our own canonical tar: the same bytes for the same files, and no path that leaves the project."""

from __future__ import annotations

import base64
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

MTIME = 315_532_800  # 1980-01-01, the oldest moment that zip tools take
MAX_PATH_BYTES = 1_024
MAX_NAME_BYTES = 255
PROJECT = "project"
TOOLS = "tools"
#: Empty ones: the user's home, and where tools write their reports.
FOLDERS = ("home", "reports")


def pack(
    files: Mapping[str, str], tools: Mapping[str, str] | None = None, binary: Mapping[str, str] | None = None
) -> list[bytes]:
    """The blocks of a tar with all files below project/, files of ours below tools/, and the empty FOLDERS.

    `binary` has the base64 of files that are no text; where it has the path of a text, the text is meant.

    Raises:
        ValueError: A path is not canonical, leaves the project, or is both file and folder; the text names it.
    """
    contents = {path: base64.b64decode(content) for path, content in (binary or {}).items()}
    contents |= {path: text.encode("utf-8", "replace") for path, text in files.items()}
    folders: set[str] = set()
    for path in contents:
        check_path(path)
        folders.update(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")
    if clash := sorted(folders & contents.keys()):
        raise ValueError(f"{clash[0]!r} is a file and a folder")
    blocks = [_header(name, folder=True) for name in (*FOLDERS, PROJECT, TOOLS)]
    blocks += [_header(f"{PROJECT}/{name}", folder=True) for name in sorted(folders)]
    for path, content in sorted(contents.items()):
        blocks += _file(f"{PROJECT}/{path}", content)
    for name, text in (tools or {}).items():
        blocks += _file(f"{TOOLS}/{name}", text.encode())
    return [*blocks, bytes(2 * tarfile.BLOCKSIZE)]


def check_path(path: str) -> None:
    """Raise ValueError unless `path` is relative, canonical and short enough for a file system."""
    parts = path.split("/")
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r} is not valid Unicode") from None
    if any(part in {"", ".", ".."} for part in parts) or "\0" in path:
        raise ValueError(f"{path!r} is not a canonical relative path")
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"{path[:80]!r}... is too long")


def header(path: str, size: int) -> bytes:
    """What stands before a file of the project in a tree that is packed: any may be a program. Raises ValueError."""
    check_path(path)
    return _header(f"{PROJECT}/{path}", size=size, mode=0o755)


def links(targets: Mapping[str, str], root: str = PROJECT) -> list[bytes]:
    """What stands for links below `root`, path -> target; any targets, for only code of ours chooses them."""
    blocks = []
    for path, target in sorted(targets.items()):
        check_path(path)
        entry = tarfile.TarInfo(f"{root}/{path}")
        entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, MTIME
        blocks.append(entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
    return blocks


def with_links(packed: list[bytes], folder: str, targets: Mapping[str, str]) -> list[bytes]:
    """What was packed, with a folder more that holds links."""
    return [*packed[:-1], _header(folder, folder=True), *links(targets, folder), packed[-1]]


def padding(size: int) -> bytes:
    """What stands after a file of `size` bytes."""
    return bytes(-size % tarfile.BLOCKSIZE)


def _file(name: str, content: bytes) -> list[bytes]:
    return [_header(name, size=len(content)), content, padding(len(content))]


def _header(name: str, *, size: int = 0, folder: bool = False, mode: int = 0o644) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = (tarfile.DIRTYPE, 0o755) if folder else (tarfile.REGTYPE, mode)
    entry.size, entry.mtime = size, MTIME
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
