"""Runs alone in a container of ours: copies the tarballs that npm installed from its cache to a folder for later jobs.

Called as `python3 -I -S -c SOURCE ORDER`; ORDER is JSON: root (a job's workspace), content (the cache's folder there),
target (a new folder), most (bytes), earlier (folders that were filled before). Says one JSON object: {"taken": {digest:
bytes}, "known": [digests of what was installed, too, and is in earlier ones]}.

The job's code has had the workspace to itself. So no link is followed, only regular files are read, of each no more
than it had when it was opened, and a copy gets its name only if that is the digest of what was copied.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
BLOCK = 1 << 20
#: What npm writes down of its install, and how much of that is read: a thousand packages take half a megabyte.
INSTALLED = "project/node_modules/.package-lock.json"
MAX_LIST_BYTES = 8 << 20
MAX_PACKAGES = 5_000
INTEGRITY = re.compile(rb"\bsha512-([A-Za-z0-9+/]{86}==)")


@contextlib.contextmanager
def folder_of(root: int, path: str) -> Iterator[int]:
    """The folder that a file is in, below another. Raises OSError, also if a part of the path is a link."""
    found = os.dup(root)
    try:
        for part in path.split("/")[:-1]:
            inner = os.open(part, FOLDER_FLAGS, dir_fd=found)
            os.close(found)
            found = inner
        yield found
    finally:
        os.close(found)


def blocks(root: int, path: str, most: int) -> Iterator[bytes]:
    """A regular file that is there in full. Raises OSError if it is anything else, or has more bytes than `most`."""
    with folder_of(root, path) as folder:
        file = os.open(path.rpartition("/")[2], FILE_FLAGS, dir_fd=folder)
    with os.fdopen(file, "rb", buffering=0) as source:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise OSError(f"{path} is not taken")
        left = found.st_size
        while left and (block := source.read(min(BLOCK, left))):
            left -= len(block)
            yield block


def copied(source: Iterator[bytes], digest: str, target: Path) -> int:
    """Copy what has this digest to a folder, and answer its bytes. Raises OSError: it has another."""
    made, hashed, size = target / "new", hashlib.sha512(), 0
    try:
        with made.open("xb") as sink:
            for block in source:
                hashed.update(block)
                size += sink.write(block)
        if hashed.hexdigest() != digest:
            raise OSError("it is something else")
        made.chmod(0o444)
        made.rename(target / digest)
    finally:
        made.unlink(missing_ok=True)
    return size


def installed(root: int) -> list[str]:
    """The digests that npm says it installed, each once."""
    try:
        text = b"".join(blocks(root, INSTALLED, MAX_LIST_BYTES))
    except OSError:
        return []
    return [base64.b64decode(each).hex() for each in dict.fromkeys(INTEGRITY.findall(text))][:MAX_PACKAGES]


def listed(folder: str) -> list[str]:
    """The names in a folder; none if it was removed."""
    try:
        return [each.name for each in Path(folder).iterdir()]
    except OSError:
        return []


def main(order: dict[str, Any]) -> None:
    """What is missing, odd or forged is passed over."""
    root, target, left = os.open(order["root"], FOLDER_FLAGS), Path(order["target"]), order["most"]
    target.mkdir(mode=0o755)
    wanted, earlier = installed(root), set(chain.from_iterable(map(listed, order["earlier"])))
    taken: dict[str, int] = {}
    for digest in [each for each in wanted if each not in earlier]:
        path = f"{order['content']}/{digest[:2]}/{digest[2:4]}/{digest[4:]}"
        with contextlib.suppress(OSError):
            taken[digest] = copied(blocks(root, path, left), digest, target)
            left -= taken[digest]
    if not taken:
        target.rmdir()
    sys.stdout.write(json.dumps({"taken": taken, "known": [each for each in wanted if each in earlier]}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
