"""The archive that project files travel in."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.archive import check_path, pack

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."}
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def unpacked(files: dict[str, str]) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(files)))) as tar:
        found = {entry.name: tar.extractfile(entry).read().decode() for entry in tar if entry.isfile()}  # type: ignore[union-attr]
    return {name.removeprefix("project/"): text for name, text in found.items()}


@settings(deadline=None)
@given(st.dictionaries(PATHS, st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_round_trip(files: dict[str, str]) -> None:
    """Whatever is accepted comes out as it went in; the only refusal is a path that is file and folder."""
    clash = any(other.startswith(path + "/") for path in files for other in files)
    if clash:
        with pytest.raises(ValueError, match="file and a folder"):
            pack(files)
    else:
        assert unpacked(files) == files


@settings(deadline=None)
@given(st.text(max_size=60))
def test_check_path(path: str) -> None:
    """Only paths that stay where they are put are accepted."""
    try:
        check_path(path)
    except ValueError:
        return
    assert "\0" not in path
    assert (Path("/project") / path).resolve().is_relative_to("/project")
    assert str(Path(path)) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "a/../b",
        "../a",
        "a//b",
        "a/",
        "./a",
        "a\0b",
        "\ud800",
        "n" * 256,
        "d/" * 600 + "f",
    ],
)
def test_refused_paths(path: str) -> None:
    """Paths that are not canonical, leave the project or fit no file system are refused."""
    with pytest.raises(ValueError, match=r".+"):
        pack({path: ""})


def test_canonical() -> None:
    """The same files give the same bytes, in whatever order they come; no owner, no time of ours is in them."""
    one, other = {"b/x": "1", "a": "2"}, {"a": "2", "b/x": "1"}

    assert pack(one) == pack(other)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(one)))) as tar:
        entries = [(entry.name, oct(entry.mode), entry.uid, entry.gid, entry.mtime) for entry in tar]
    assert entries == [
        ("home", "0o755", 0, 0, 315_532_800),
        ("reports", "0o755", 0, 0, 315_532_800),
        ("project", "0o755", 0, 0, 315_532_800),
        ("tools", "0o755", 0, 0, 315_532_800),
        ("project/b", "0o755", 0, 0, 315_532_800),
        ("project/a", "0o644", 0, 0, 315_532_800),
        ("project/b/x", "0o644", 0, 0, 315_532_800),
    ]


def test_program_tar_reads_it(tmp_path: Path) -> None:
    """The tar program unpacks long, odd and non-English names and reports nothing."""
    files = {"ä/ö ü.txt": "é", "-rf": "x", "deep/" * 40 + "file": "y", "line\nbreak": "z", "*": ""}

    done = subprocess.run(["tar", "-x", "-C", tmp_path], input=b"".join(pack(files)), capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"")
    assert {path: (tmp_path / "project" / path).read_text() for path in files} == files


def test_tools_are_beside_the_project() -> None:
    """Files of ours lie outside of the project, whatever is in it."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack({"tools/a": "theirs"}, {"a": "ours"})))) as tar:
        found = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]

    assert found == {"project/tools/a": b"theirs", "tools/a": b"ours"}
