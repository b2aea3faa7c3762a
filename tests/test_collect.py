"""The collector, run as in its container, on trees that a hostile job could leave; and its reader."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from executor.collect import Globs
from executor.collected import MAX_HEADER_BYTES, BadFrames, Collected, Stream, order, read
from executor.keeper import COLLECTOR
from jobs import Artifact, Limits

LIMITS = Limits(memory_bytes=1, cpus=1, pids=1, total_s=1, install_s=1, command_s=1)
Kept = dict[str, bytes]


def sent(root: Path, folders: tuple[str, ...], limits: Limits, globs: tuple[str, ...] = ()) -> bytes:
    """What the collector writes."""
    command = [sys.executable, "-I", "-S", "-c", COLLECTOR, order(str(root), folders, limits, globs)]
    return subprocess.run(command, cwd="/", capture_output=True, check=True, timeout=20).stdout


def taken(stream: bytes | Iterable[bytes], limits: Limits = LIMITS) -> tuple[Collected, Kept]:
    kept: Kept = {}

    def keep(path: str, blocks: Iterable[bytes]) -> Artifact:
        content = kept[path] = b"".join(blocks)
        return Artifact(path, len(content), hashlib.sha256(content).hexdigest())

    return read(Stream([stream] if isinstance(stream, bytes) else stream), limits, keep), kept


def collect(root: Path, *folders: str, limits: Limits = LIMITS) -> tuple[Collected, Kept]:
    return taken(sent(root, folders or ("dist",), limits), limits)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    return folder


def skipped(found: Collected) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in found.skipped}


def test_files_in_path_order(tmp_path: Path, dist: Path) -> None:
    """All regular files are sent, sorted by their whole path, empty ones and large ones too."""
    files = {"a/z": b"1", "a-b": b"", "a/b/c": os.urandom(700_000), "b": b"\0\xff"}
    for path, content in files.items():
        (dist / path).parent.mkdir(parents=True, exist_ok=True)
        (dist / path).write_bytes(content)

    found, kept = collect(tmp_path)

    assert kept == files
    assert [artifact.path for artifact in found.artifacts] == ["a-b", "a/b/c", "a/z", "b"]
    assert (found.folder, found.over, found.skipped) == ("dist", None, ())


def test_first_existing_folder(tmp_path: Path) -> None:
    """The first candidate that exists is taken, and it alone."""
    for name in ("build", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()

    found, kept = collect(tmp_path, "dist/app", "build", "out")

    assert (found.folder, set(kept)) == ("build", {"build"})


def test_no_folder(tmp_path: Path) -> None:
    """No candidate is not an error."""
    found, kept = collect(tmp_path)

    assert (found.folder, kept) == (None, {})


def test_what_is_not_a_file(tmp_path: Path, dist: Path) -> None:
    """Links are never followed and pipes never waited for; all are listed with why."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (dist / "link").symlink_to(secret)
    (dist / "folder").symlink_to("/etc")
    (dist / "loop").symlink_to("loop")
    os.mkfifo(dist / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dist / "s"))
    (dist / "hard").hardlink_to(secret)

    found, kept = collect(tmp_path)

    assert skipped(found) == {
        "link": "symlink", "folder": "symlink", "loop": "symlink", "pipe": "fifo", "s": "socket",
    }  # fmt: skip
    assert kept == {"hard": b"s3cret"}  # a hard link is a file; the job could read it anyway


@pytest.mark.parametrize("name", ["dist", "dist/app"])
def test_folder_is_a_link(tmp_path: Path, name: str) -> None:
    """A candidate that is a link, or lies behind one, is not entered."""
    outside = tmp_path / "outside"
    (outside / "app").mkdir(parents=True)
    (outside / "secret").touch()
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dist").symlink_to(outside)

    found, kept = collect(tmp_path / "project", name)

    assert (found.folder, kept) == (None, {})
    assert skipped(found) == {name: "not a real folder"}


def test_odd_names(tmp_path: Path, dist: Path) -> None:
    """Names are data: newlines, escapes and dashes are kept, what is not UTF-8 is listed."""
    good = ["line\nbreak", "\x1b[31m", "-rf", " ", "ü😀", "n" * 255, "..."]
    for name in good:
        (dist / name).touch()
    Path(os.fsdecode(os.fsencode(dist) + b"/bad\xff")).touch()

    found, kept = collect(tmp_path)

    assert sorted(kept) == sorted(good)
    assert skipped(found) == {"bad\ufffd": "name is not UTF-8"}


@pytest.fixture
def deep(dist: Path) -> Iterator[Path]:
    """An output folder with 2,000 folders in each other."""
    here = os.open(dist, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        following = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = following
    os.close(here)
    yield dist
    subprocess.run(["rm", "-rf", dist], check=True)  # Python's own removal gives up at this depth


def test_deep_folders(tmp_path: Path, deep: Path) -> None:
    """Folders nested thousands deep neither break the collector nor hide what is near the top."""
    (deep / "near").touch()

    found, kept = collect(tmp_path)

    assert set(kept) == {"near"}
    assert skipped(found) == {"/".join("d" * 32): "too deep"}


def test_long_path(tmp_path: Path, dist: Path) -> None:
    """A path longer than the limit is listed, shortened, and not sent."""
    folder = dist
    for _ in range(5):
        folder = folder / ("n" * 250)
    folder.mkdir(parents=True)
    (folder / "x").touch()

    found, kept = collect(tmp_path)

    assert kept == {}
    assert list(skipped(found).values()) == ["name too long"]


def test_sparse_giant(tmp_path: Path, dist: Path) -> None:
    """A file of a terabyte on paper is refused by its size, at once, and nothing at all is sent."""
    (dist / "a").write_text("small")
    with (dist / "giant").open("wb") as file:
        file.truncate(1 << 40)
    began = time.monotonic()

    found, kept = collect(tmp_path)

    assert (found.over, kept, found.artifacts) == ("bytes", {}, ())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("size", "over"), [(64, None), (65, "bytes")])
def test_exact_size(tmp_path: Path, dist: Path, size: int, over: str | None) -> None:
    """Exactly the limit is allowed, one byte more is not."""
    (dist / "a").write_bytes(bytes(size))

    found, _ = collect(tmp_path, limits=replace(LIMITS, artifact_bytes=64))

    assert found.over == over


@pytest.mark.parametrize(("count", "over"), [(5, None), (6, "files")])
def test_exact_count(tmp_path: Path, dist: Path, count: int, over: str | None) -> None:
    """Exactly as many files as the limit are allowed, one more is not."""
    for at in range(count):
        (dist / str(at)).touch()

    found, kept = collect(tmp_path, limits=replace(LIMITS, artifact_files=5))

    assert found.over == over
    assert len(kept) == (0 if over else count)


def test_many_skipped(tmp_path: Path, dist: Path) -> None:
    """Of many skipped entries the first hundred are listed and all are counted."""
    for at in range(150):
        (dist / str(at)).symlink_to("/")

    found, _ = collect(tmp_path)

    assert (len(found.skipped), found.skipped_count) == (100, 150)


def frame(message: object, content: bytes = b"") -> bytes:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">I", len(text)) + text + content


def head(files: object = 1, **more: object) -> bytes:
    return frame({"folder": "dist", "over": None, "files": files, "skipped": [], "skippedCount": 0, **more})


def named(path: str, size: object, content: bytes = b"") -> bytes:
    return frame({"path": base64.b64encode(path.encode("utf-8", "surrogateescape")).decode(), "size": size}, content)


HOSTILE = {
    "nothing": b"",
    "half a length": b"\0\0",
    "huge header": struct.pack(">I", MAX_HEADER_BYTES + 1) + b"x",
    "not JSON": frame(b"{"),
    "not an object": frame([1]),
    "deep JSON": frame(b"[" * 100_000),
    "too many files": head(LIMITS.artifact_files + 1),
    "negative count": head(-1),
    "count is a bool": head(True),
    "file missing": head(1),
    "file broken off": head(1) + named("a", 5, b"abc"),
    "too many bytes": head(1) + named("a", LIMITS.artifact_bytes + 1),
    "too many bytes in all": head(2) + named("a", 60, bytes(60)) + named("b", 60, bytes(60)),
    "negative size": head(1) + named("a", -1),
    "size is text": head(1) + named("a", "1", b"x"),
    "path climbs": head(1) + named("../a", 0),
    "absolute path": head(1) + named("/etc/passwd", 0),
    "path not UTF-8": head(1) + named("\udcff", 0),
    "path not base64": head(1) + frame({"path": "!", "size": 0}),
    "same path twice": head(2) + named("a", 0) + named("a", 0),
    "no skipped list": head(0, skipped=None),
    "skipped not base64": head(0, skipped=[{"path": "a", "reason": "x"}, {"path": "=aaa", "reason": "x"}]),
}


@pytest.mark.parametrize("stream", HOSTILE.values(), ids=HOSTILE.keys())
def test_reader_trusts_nothing(stream: bytes) -> None:
    """Whatever does not keep to the protocol or its bounds is refused."""
    limits = replace(LIMITS, artifact_bytes=100) if stream == HOSTILE["too many bytes in all"] else LIMITS

    with pytest.raises(BadFrames):
        taken(stream, limits)


def test_reader_takes_any_cut() -> None:
    """Blocks may be cut anywhere."""
    stream = head(2) + named("a", 3, b"abc") + named("b", 0)

    def bytewise() -> Iterator[bytes]:
        for at in range(len(stream)):
            yield stream[at : at + 1]

    assert taken(bytewise())[1] == {"a": b"abc", "b": b""}


def test_reader_goes_on_after_a_lazy_taker() -> None:
    """What the taker of one file leaves unread does not shift the next file."""
    stream = head(2) + named("a", 3, b"abc") + named("b", 1, b"x")
    blocks = [stream[at : at + 1] for at in range(len(stream))]

    found = read(Stream(blocks), LIMITS, lambda path, content: Artifact(path, len(next(iter(content))), ""))

    assert [artifact.path for artifact in found.artifacts] == ["a", "b"]


def test_two_folders(tmp_path: Path, dist: Path) -> None:
    """Several folders come one after the other, each with its own bounds."""
    (dist / "a").write_text("1")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "b").write_text("22")
    orders = [
        order(str(tmp_path), ["dist"], LIMITS),
        order(str(tmp_path), ["reports"], replace(LIMITS, artifact_bytes=1)),
    ]
    command = [sys.executable, "-I", "-S", "-c", COLLECTOR, *orders]
    stream = Stream([subprocess.run(command, capture_output=True, check=True, timeout=20).stdout])

    first, second = (read(stream, LIMITS, lambda path, content: Artifact(path, 0, "")) for _ in range(2))

    assert ([artifact.path for artifact in first.artifacts], first.over) == (["a"], None)
    assert (second.artifacts, second.over) == ((), "bytes")


# --- globs ------------------------------------------------------------------------------------------------------------


def chosen(root: Path, *globs: str, limits: Limits = LIMITS) -> tuple[Collected, Kept]:
    return taken(sent(root, (".",), limits, globs), limits)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    paths = [
        "report.html",
        "dist/index.html",
        "dist/a/b.js",
        "dist/a/b.js.map",
        "pages/[slug].js",
        "pages/s.js",
        ".env.js",
    ]
    for path in [*paths, "node_modules/x/dist/y.js", ".git/config.js"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


@pytest.mark.parametrize(
    ("globs", "paths"),
    [
        (["dist"], {"dist/index.html", "dist/a/b.js", "dist/a/b.js.map"}),
        (["dist/**"], {"dist/index.html", "dist/a/b.js", "dist/a/b.js.map"}),
        (["dist/*"], {"dist/index.html", "dist/a/b.js", "dist/a/b.js.map"}),
        (["dist/*.html", "report.*"], {"dist/index.html", "report.html"}),
        (["**/*.js"], {"dist/a/b.js", "pages/[slug].js", "pages/s.js", ".env.js"}),
        (["**/a/**/*.js"], {"dist/a/b.js"}),
        (["pages/[slug].js"], {"pages/[slug].js"}),
        (["pages/?.js"], {"pages/s.js"}),
        (["nothing/**", "*.txt"], set()),
    ],
)
def test_globs(project: Path, globs: list[str], paths: set[str]) -> None:
    """Globs choose files by their path in the project, never what was installed; a folder stands for all in it."""
    found, kept = chosen(project, *globs)

    assert set(kept) == paths
    assert (found.folder, found.over) == (".", None)
    assert found.unmatched == (() if paths else (0, 1))


def test_unmatched_globs(project: Path) -> None:
    """Each glob that chose nothing is named, so that a wrong one shows."""
    assert chosen(project, "dist", "reports/*.xml", "report.html", "x")[0].unmatched == (1, 3)


def test_globs_follow_no_link(project: Path) -> None:
    """A link that a glob fits is left out and listed; what no glob fits is not even mentioned."""
    (project / "dist" / "passwd").symlink_to("/etc/passwd")
    (project / "other").symlink_to("/etc")

    found, kept = chosen(project, "dist")

    assert "dist/passwd" not in kept
    assert skipped(found) == {"dist/passwd": "symlink"}


def test_caps_of_chosen_files(project: Path) -> None:
    """Only what is chosen counts."""
    (project / "big").write_bytes(bytes(10_000))
    few = replace(LIMITS, artifact_bytes=100, artifact_files=2)

    assert set(chosen(project, "report.html", limits=few)[1]) == {"report.html"}
    assert chosen(project, "dist", limits=few)[0].over == "files"
    assert chosen(project, "big", limits=few)[0].over == "bytes"


def spelled_out(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression, written in another way than the collector's."""
    once = re.sub(r"\*\*(?:/\*\*)+", "**", glob)  # any number of folders, and then any number, is any number
    parts = [
        ".*?" if part == "**" else re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        for part in once.split("/")
    ]
    pattern = "/".join(parts).replace(".*?/", "(?:.*/)?").replace("/.*?", "(?:/.*)?")
    return re.compile(f"(?:{pattern})(?:/.*)?", re.DOTALL)


GLOBS = st.lists(st.sampled_from(["a", "b", "*", "a*", "?", "**", "[a]"]), min_size=1, max_size=4).map("/".join)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "[a]"]), min_size=1, max_size=5)


@given(GLOBS, PATHS)
@example("a/**/**", ["a"])
def test_globs_mean_what_they_look_like(glob: str, path: list[str]) -> None:
    """Walking name by name comes to the same as comparing whole paths."""
    order_of = json.loads(order("/", ["."], LIMITS, [glob]))
    globs = Globs(order_of["globs"])
    places = globs.start()
    for name in path:
        places = globs.after(places, name.encode())

    assert globs.wanted(places) == bool(spelled_out(glob).fullmatch("/".join(path)))


def test_stars_are_cheap(project: Path) -> None:
    """A glob made to be slow is not."""
    (project / ("a" * 250)).touch()
    began = time.monotonic()

    chosen(project, "*a" * 60 + "b", "/".join(["**", "*a*a*a*a"] * 15))

    assert time.monotonic() - began < 10
