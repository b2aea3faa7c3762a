"""Archives that callers send: what comes out, and what is refused, with every entry that is at fault."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import struct
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidRequest
from paths import path_fault
from tests.archives import nodes, snapshot, special, tar, tar_gz, zipped
from tree import Room, Tree, clashes
from unpack import unpacked

ROOM = Room(files=20, bytes=10_000)
FILES = {"package.json": b'{"name":"x"}', "src/a b.ts": "é\n".encode(), "public/logo.png": b"\x89PNG\xff\x00" * 9}
MAKERS: list[Callable[[dict[str, bytes]], bytes]] = [tar, tar_gz, zipped, lambda files: snapshot(nodes(files))]
NAMES = ["tar", "tar.gz", "zip", "snapshot"]


def of(archive: bytes, room: Room = ROOM) -> Tree:
    return unpacked(io.BytesIO(archive), room)


def mistakes(archive: bytes, room: Room = ROOM) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        of(archive, room)
    return [(mistake.pointer, mistake.detail) for mistake in caught.value.mistakes]


# --- what comes out ---------------------------------------------------------------------------------------------------

SEGMENTS = st.text(st.characters(categories=["L", "N", "So"], include_characters=" .-_()[]"), min_size=1, max_size=30)
PATHS = st.lists(SEGMENTS.filter(lambda name: name.strip(". ") != ""), min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
@settings(deadline=None)
@given(contents=st.dictionaries(PATHS, st.binary(max_size=60), min_size=1, max_size=5))
def test_round_trip(make: Callable[[dict[str, bytes]], bytes], contents: dict[str, bytes]) -> None:
    """Every kind gives back the bytes that were packed, whatever the names."""
    try:
        tree = of(make(contents))
    except InvalidRequest:  # names that JSON may not have either
        assert any(path_fault(path) for path in contents) or any(clashes("#", contents))
        return
    except (TypeError, KeyError):  # a test's own snapshot cannot hold a file that is a folder
        return
    assert tree == Tree.of(contents)


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=ustar"], ["--format=posix"]])
def test_what_tar_makes(tmp_path: Path, options: list[str]) -> None:
    """Archives of GNU tar are read as they are: with ./ before each name, folders, and names beyond 100 bytes."""
    long = "d" * 60 + "/" + "f" * 60
    files = FILES | {long: b"long"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    packed = subprocess.run(["tar", "-czf", "-", *options, "-C", tmp_path, "."], capture_output=True, check=True).stdout

    assert of(packed) == Tree.of(files)


def test_what_git_makes(tmp_path: Path) -> None:
    """`git archive` writes a header for all members, which is read over."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    archive = ["git", "archive", "--format=tar.gz", "HEAD"]

    assert of(subprocess.run(archive, cwd=tmp_path, capture_output=True, check=True).stdout) == Tree.of(FILES)


# --- what is refused --------------------------------------------------------------------------------------------------

ODD_NAMES = [
    "../x",
    "/etc/x",
    "a/../../b",
    "C:/x",
    "a//b",
    "node_modules/x",
    "a/.git/config",
    "a\\b",
    "a\x1bb",
    "a/./b",
]


@pytest.mark.parametrize("make", [tar, tar_gz, zipped], ids=NAMES[:3])
def test_odd_names(make: Callable[[dict[str, bytes]], bytes]) -> None:
    """Names that could lead elsewhere are refused, all at once, each where it is."""
    found = mistakes(make({**dict.fromkeys(ODD_NAMES, b""), "fine.txt": b""}))

    assert [pointer for pointer, _ in found] == [
        "#/..~1x", "#/~1etc~1x", "#/a~1..~1..~1b", "#/C:~1x", "#/a~1~1b", "#/node_modules~1x", "#/a~1.git~1config",
        "#/a%5Cb", "#/a%1Bb", "#/a~1.~1b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (b"Z", "of an unknown kind"),
    ],
)
def test_only_files(kind: bytes, fault: str) -> None:
    """Links, devices and pipes are refused; what follows them is still read."""
    archive = tar({"a": b"1"}, special("x", kind, "/etc/passwd"), special("../y", tarfile.DIRTYPE))

    assert mistakes(archive) == [("#/x", f"The entry is {fault}."), ("#/..~1y", "The entry has a .. segment.")]


def test_links_in_zips() -> None:
    """A symbolic link in a zip is a mode in its directory."""
    assert mistakes(zipped({}, {"x": "/etc/passwd"})) == [("#/x", "The entry is a link or device.")]


def test_twice() -> None:
    """A name that comes twice is refused, with or without a ./ before it, and a file that is a folder too."""
    assert mistakes(tar({"a": b"1", "./a": b"2"})) == [("#/a", "The entry comes twice.")]
    assert mistakes(tar({"a": b"1", "a/b": b"2"}))[0][0] == "#/a"


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_too_many_and_too_large(make: Callable[[dict[str, bytes]], bytes]) -> None:
    """The limits of a project hold, and the answer has their numbers."""
    assert mistakes(make({f"f{i}": b"" for i in range(21)}), Room(20, 100))[0][1].startswith(
        "the archive has 21 files;"
    )
    (found,) = mistakes(make({"a": bytes(60), "b": bytes(60)}), Room(20, 100))
    assert "more than" in found[1] or "at most 100 are accepted" in found[1]


@pytest.mark.parametrize("archive", [b"", b"hello", b"\0" * 2000, b"PK\3\4", b"PK\5\6" + bytes(18), b"\x1f\x8b", b"{}"])
def test_no_archive(archive: bytes) -> None:
    """Anything else says so, and an archive without files is none."""
    ((pointer, detail),) = mistakes(archive)

    assert pointer == "#"
    assert "cannot be read" in detail or "no files" in detail


def test_encrypted_and_odd_compression() -> None:
    """A zip is plain or deflated; another method, or a key that nobody has, is named."""
    locked = bytearray(zipped({"a": b"1"}))
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1

    assert mistakes(bytes(locked)) == [("#/a", "The entry is encrypted.")]
    assert mistakes(zipped({"a": b"1"}, method=zipfile.ZIP_LZMA))[0][1].endswith("another way than deflate.")


def test_a_name_of_nothing() -> None:
    """A zip whose entry has no name is refused like any other bad name."""
    nameless = zipped({"a": b"1"}).replace(b"\x01\x00\x00\x00a", b"\x00\x00\x00\x00")
    packed = bytearray(nameless)
    at = packed.index(b"PK\1\2")
    packed[at + 28] = 0
    del packed[at + 46]
    end = packed.index(b"PK\5\6")
    struct.pack_into("<2L", packed, end + 12, end - at, at)

    assert mistakes(bytes(packed)) == [("#/", "The entry has no name.")]


def test_checksums() -> None:
    """A bit that fell over is noticed, in gzip and in zip."""
    packed, zipped_file = bytearray(tar_gz(FILES)), bytearray(zipped({"a": b"hello"}, method=zipfile.ZIP_STORED))
    packed[-5] ^= 1
    zipped_file[zipped_file.index(b"hello")] ^= 1

    assert "gzip is broken" in mistakes(bytes(packed))[0][1]
    assert "zip is broken" in mistakes(bytes(zipped_file))[0][1]
    assert "more follows" in mistakes(tar_gz(FILES) + b"x")[0][1]


# --- bombs ------------------------------------------------------------------------------------------------------------

REAL_ROOM = Room(2_000, 10 << 20)


def pax_bomb() -> bytes:
    """Extended headers of 100 kB each, which a careless reader holds all at once."""
    entry = tarfile.TarInfo("n" * 100_000)
    return gzip.compress(b"".join(entry.tobuf(tarfile.PAX_FORMAT) for _ in range(400)))


def header_bomb() -> bytes:
    """A million folders in a few kilobytes."""
    return gzip.compress(special("d/", tarfile.DIRTYPE).tobuf() * 200_000)


def overlapping_zip() -> bytes:
    """A zip whose directory names the same packed megabytes a thousand times."""
    one = zipped({"a": bytes(9 << 20)})
    at = one.index(b"PK\1\2")
    entry, end = one[at : one.rindex(b"PK\5\6")], bytearray(one[one.rindex(b"PK\5\6") :])
    struct.pack_into("<2HL", end, 8, 1000, 1000, len(entry) * 1000)
    return one[:at] + entry * 1000 + bytes(end)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(tar({"a": bytes(200 << 20)})),
    "zip": lambda: zipped({"a": bytes(200 << 20)}),
    "pax": pax_bomb,
    "folders": header_bomb,
    "overlap": overlapping_zip,
    "directory": lambda: b"PK\3\4" + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 9, 9, 1 << 30, 0, 0),
    "lz4 length": lambda: snapshot({"d": {}}, size=0xFFFFFFFF),
    "lz4": lambda: snapshot({"d": {"a": {"f": {"c": bytes(200 << 20)}}}}),
    "long lists": lambda: snapshot(b"\x81\xa1d" + b"\xdd\x00\xff\xff\xff" * 400 + bytes(14 << 20)),
    "small nodes": lambda: snapshot({"d": {str(i): {str(j): None for j in range(7_000)} for i in range(300)}}),
    "deep": lambda: snapshot(b"\x81\xa1d" * 100_000),
    "deep, but not too deep": lambda: snapshot(b"\x81\xa1d\x81\xa1a" * 200 + b"\x80"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(bomb: str) -> None:
    """What unpacks to much more than a project is refused in a few seconds, with a few projects' worth of memory."""
    archive = BOMBS[bomb]()
    tracemalloc.start()
    began = time.process_time()
    try:
        found = mistakes(archive, REAL_ROOM)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found
    assert time.process_time() - began < 20  # measured while every allocation is traced; a second without
    assert peak < 6 * REAL_ROOM.bytes


# --- anything at all --------------------------------------------------------------------------------------------------

VALID = {name: make(FILES) for name, make in zip(NAMES, MAKERS, strict=True)}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage(name: str, data: st.DataObject) -> None:
    """A damaged archive is read or refused; nothing else ever happens."""
    damaged = bytearray(VALID[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(InvalidRequest):
        assert of(bytes(damaged)).bytes <= ROOM.bytes


LEAVES = st.none() | st.binary(max_size=5) | st.text(max_size=5) | st.integers(0, 9)
KEYS = st.sampled_from(["d", "f", "c", "a", "/"]) | st.binary(max_size=1)


@settings(max_examples=200, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)))
def test_any_snapshot(value: object) -> None:
    """Any MessagePack in place of a snapshot's is read or refused."""
    with contextlib.suppress(InvalidRequest):
        assert of(snapshot(msgpack.packb({"d": value}))).paths


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=512, max_size=512), st.binary(max_size=600))
def test_any_tar_header(header: bytes, rest: bytes) -> None:
    """Any header with a right checksum and magic is read or refused."""
    block = bytearray(header)
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(InvalidRequest):
        assert of(bytes(block) + rest + bytes(2048)).paths


def test_a_real_template() -> None:
    """A project like Chef's template, with its picture and a folder of generated code, survives as a snapshot."""
    picture = bytes(range(256)) * 120
    files = {
        "package.json": b'{"scripts":{"build":"vite build"},"dependencies":{"react":"^19.2.0","convex":"^1.31.2"}}',
        "package-lock.json": b'{"lockfileVersion":3,"packages":{}}' + b" " * 235_000,
        "convex/_generated/api.js": b"export const api = {};\n",
        "convex/schema.ts": b"export default {};\n",
        "src/main.tsx": "document.title = '☃';\n".encode(),
        "public/logo.png": picture,
        ".eslintrc.cjs": b"",
    }

    tree = of(snapshot(nodes(files)), REAL_ROOM)

    assert tree == Tree.of(files)
    assert base64.b64decode(tree.binary["public/logo.png"]) == picture
