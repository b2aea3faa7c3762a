"""Runs alone inside the collect container: sends the files of output folders to stdout, whatever a job left there.

Called as `python3 -I -S -c SOURCE ORDER...`, an ORDER for each folder; it is JSON: root, folders (candidates in order),
globs (each a list of segments; none: everything), maxFiles, maxBytes, maxDepth, maxPathBytes, maxEntries. Frames on
stdout: a big-endian 32-bit length and that much JSON. The first is {folder, over, skipped, skippedCount, unmatched,
files}; then one {path, size} before each file's raw bytes. Paths are base64.
No link is ever followed: every part of every path is opened on its own, below the folder before it.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

Path = tuple[bytes, ...]
#: Where one can stand in each glob after a path: glob -> numbers of the segments that come next; its length: matched.
Places = dict[int, frozenset[int]]

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
BLOCK = 1 << 18
MAX_LISTED = 100
#: Globs look for what a job made, and that is never here.
NOT_SEARCHED = (b"node_modules", b".git")
ANY_FOLDERS = b"**"
KINDS = {
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class Over(Exception):
    """A cap is passed; `what` names it. Nothing is sent then."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Globs:
    """Which paths are wanted. A glob that fits a folder takes all that is in it."""

    def __init__(self, globs: list[list[str]]) -> None:
        self.globs = [[os.fsencode(segment) for segment in glob] for glob in globs]
        self.matched: set[int] = set()

    def start(self) -> Places:
        """Where one stands before any name."""
        return {number: self.reached(glob, {0}) for number, glob in enumerate(self.globs)}

    def after(self, places: Places, name: bytes) -> Places:
        """Where one stands after one more name; globs that cannot match any more are left out."""
        following = {number: self.step(self.globs[number], at, name) for number, at in places.items()}
        return {number: at for number, at in following.items() if at}

    def step(self, glob: list[bytes], at: frozenset[int], name: bytes) -> frozenset[int]:
        """One glob's share of after()."""
        if len(glob) in at:
            return at
        stay = {place for place in at if glob[place] == ANY_FOLDERS}
        go_on = {place + 1 for place in at - stay if fnmatch.fnmatchcase(name, glob[place])}
        return self.reached(glob, stay | go_on)

    def reached(self, glob: list[bytes], at: set[int]) -> frozenset[int]:
        """With the places behind each ** that stands for no folder."""
        for place in range(len(glob)):
            if place in at and glob[place] == ANY_FOLDERS:
                at.add(place + 1)
        return frozenset(at)

    def wanted(self, places: Places) -> bool:
        """True if a file is to be taken; the globs that say so are remembered."""
        fitting = {number for number, at in places.items() if len(self.globs[number]) in at}
        self.matched |= fitting
        return bool(fitting) or not self.globs

    def unmatched(self) -> list[int]:
        """The globs that no file was taken for."""
        return [number for number in range(len(self.globs)) if number not in self.matched]


class Walk:
    """Everything below one folder: the regular files with their sizes, and what is skipped with why."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.globs = Globs(order["globs"])
        self.files: list[tuple[Path, int]] = []
        self.skipped: list[dict[str, str]] = []
        self.skipped_count = 0
        self.entries = 0
        self.bytes = 0

    def all(self, root_fd: int) -> None:
        """Walk without recursion, so that no depth of folders can exhaust the stack."""
        waiting: list[tuple[Path, Places]] = [((), self.globs.start())]
        while waiting:
            parts, places = waiting.pop()
            try:
                folder = open_below(root_fd, parts, FOLDER_FLAGS)
            except OSError:
                self.skip(parts, "unreadable")
                continue
            try:
                waiting += self.folder(folder, parts, places)
            finally:
                os.close(folder)

    def folder(self, folder: int, parts: Path, places: Places) -> list[tuple[Path, Places]]:
        """Take the files of one folder; answer its subfolders."""
        below = []
        for name in self.names(folder):
            path, there = (*parts, name), self.globs.after(places, name)
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (self.searched(name, there) if stat.S_ISDIR(mode) else self.globs.wanted(there)):
                continue
            if why := self.refusal(path, mode):
                self.skip(path, why)
            elif stat.S_ISDIR(mode):
                below.append((path, there))
            else:
                self.file(folder, path)
        return below

    def searched(self, name: bytes, places: Places) -> bool:
        """False for a folder in which nothing can be wanted."""
        return not self.globs.globs or bool(places and name not in NOT_SEARCHED)

    def names(self, folder: int) -> Iterator[bytes]:
        """Names in the folder, as bytes; counted while they are listed, because there may be millions."""
        with os.scandir(folder) as entries:
            for entry in entries:
                self.entries += 1
                if self.entries > self.order["maxEntries"]:
                    raise Over("entries")
                yield os.fsencode(entry.name)

    def refusal(self, path: Path, mode: int) -> str | None:
        """Why an entry is not taken, or None."""
        joined = b"/".join(path)
        if len(joined) > self.order["maxPathBytes"]:
            return "name too long"
        if not is_utf8(joined):
            return "name is not UTF-8"
        if stat.S_ISDIR(mode):
            return "too deep" if len(path) >= self.order["maxDepth"] else None
        return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "not a file")

    def file(self, folder: int, path: Path) -> None:
        """Take one file by its size; it is opened here to see that it can be read."""
        try:
            descriptor = os.open(path[-1], FILE_FLAGS, dir_fd=folder)
        except OSError:
            self.skip(path, "unreadable")
            return
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        self.bytes += size
        self.files.append((path, size))
        if self.bytes > self.order["maxBytes"]:
            raise Over("bytes")
        if len(self.files) > self.order["maxFiles"]:
            raise Over("files")

    def skip(self, path: Path, why: str) -> None:
        """Count it, and list the first ones."""
        self.skipped_count += 1
        if len(self.skipped) < MAX_LISTED:
            self.skipped.append({"path": encoded(path)[:4096], "reason": why})


def open_below(root_fd: int, parts: Path, last_flags: int) -> int:
    """Open a path part by part, following no link. The caller closes it."""
    current = os.dup(root_fd)
    for at, part in enumerate(parts):
        flags = last_flags if at == len(parts) - 1 else FOLDER_FLAGS
        try:
            following = os.open(part, flags, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def first_folder(project_fd: int, walk: Walk) -> tuple[str, int] | tuple[None, None]:
    """(name, descriptor) of the first candidate that is a real folder, or (None, None)."""
    for name in walk.order["folders"]:
        parts = tuple(os.fsencode(name).split(b"/"))
        try:
            return name, open_below(project_fd, parts, FOLDER_FLAGS)
        except FileNotFoundError:
            continue
        except OSError:
            walk.skip(parts, "not a real folder")
    return None, None


def is_utf8(name: bytes) -> bool:
    """True if a name can be shown and stored as text."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def encoded(path: Path) -> str:
    """A path as it travels in JSON."""
    return base64.b64encode(b"/".join(path)).decode()


def send(out: BinaryIO, message: dict[str, Any]) -> None:
    """One frame."""
    text = json.dumps(message).encode()
    out.write(struct.pack(">I", len(text)) + text)


def send_file(out: BinaryIO, root_fd: int, path: Path, size: int) -> None:
    """One file: its frame, then exactly `size` bytes."""
    send(out, {"path": encoded(path), "size": size})
    descriptor = open_below(root_fd, path, FILE_FLAGS)
    left = size
    while left:
        block = os.read(descriptor, min(BLOCK, left))
        if not block:
            raise OSError("a file became shorter while it was read")
        out.write(block)
        left -= len(block)
    os.close(descriptor)


def main(order: dict[str, Any], out: BinaryIO) -> None:
    """Walk first, so that a cap is known before anything is sent."""
    walk = Walk(order)
    folder, root_fd = first_folder(os.open(order["root"], FOLDER_FLAGS), walk)
    over = None
    if root_fd is not None:
        try:
            walk.all(root_fd)
        except Over as error:
            over, walk.files = error.what, []
    head = {"folder": folder, "over": over, "files": len(walk.files)}
    left = {"skipped": walk.skipped, "skippedCount": walk.skipped_count, "unmatched": walk.globs.unmatched()}
    send(out, {**head, **left})
    for path, size in sorted(walk.files, key=lambda file: b"/".join(file[0])):
        send_file(out, root_fd or 0, path, size)
    out.flush()


if __name__ == "__main__":
    for each in sys.argv[1:]:
        main(json.loads(each), sys.stdout.buffer)
