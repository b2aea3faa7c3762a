"""Artifacts on a real disk: names, crashes, concurrent writers, archives."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import resource
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import Shelf
from errors import ArtifactNotFound, JobNotFound, RunStopped, StorageFailed
from jobs import Artifact, new_id

HOSTILE = ["../../../etc/passwd", "/etc/passwd", "a/../../b", "a\0b", "", ".", "..", "a//b", "./a", "a/"]
ODD = ["-rf", "a b\n.txt", "$(id)", "C:\\x", "ä/日本語.txt", "a\u00a0b", "x" * 300 + "/" + "y" * 300, "a" * 64]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "data" / "artifacts")


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read(shelf: Shelf, job_id: str, fence: int, artifact: Artifact) -> bytes:
    with shelf.open_file(job_id, fence, artifact.sha256) as file:
        return file.read()


def test_kept_and_read_back(shelf: Shelf) -> None:
    """A file comes back byte for byte, with its size and sha256."""
    job_id = new_id()

    artifact = shelf.open(job_id, 1).keep("dist/index.html", [b"<h1>", b"", b"hi</h1>"])

    assert artifact == Artifact("dist/index.html", 11, hashlib.sha256(b"<h1>hi</h1>").hexdigest())
    assert read(shelf, job_id, 1, artifact) == b"<h1>hi</h1>"


def test_empty_file(shelf: Shelf) -> None:
    """A file without content is a file."""
    job_id = new_id()

    artifact = shelf.open(job_id, 1).keep("empty", [])

    assert artifact.size == 0
    assert read(shelf, job_id, 1, artifact) == b""


@pytest.mark.parametrize("name", HOSTILE + ODD)
def test_names_never_reach_the_disk(shelf: Shelf, tmp_path: Path, name: str) -> None:
    """Whatever a file is called, only its job, attempt and sha256 name it on the disk."""
    job_id = new_id()

    artifact = shelf.open(job_id, 3).keep(name, [b"x"])

    assert artifact.path == name
    assert files_below(tmp_path) == [f"data/artifacts/{job_id}/3/{artifact.sha256}"]


def test_equal_content_is_stored_once(shelf: Shelf, tmp_path: Path) -> None:
    """Files with equal content share one file on the disk and keep their own paths."""
    writer = shelf.open(new_id(), 1)

    kept = [writer.keep(path, [b"same"]) for path in ("a", "b", "c/d")]

    assert [artifact.path for artifact in kept] == ["a", "b", "c/d"]
    assert len(files_below(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "../x", "job-", "job-" + "A" * 32, "job-" + "0" * 31 + "/", "job-" + "0" * 33])
def test_only_job_ids_name_folders(shelf: Shelf, tmp_path: Path, text: str) -> None:
    """What is no job id never becomes a path."""
    for call in (
        lambda: shelf.open(text, 1),
        lambda: shelf.open_file(text, 1, "0" * 64),
        lambda: shelf.tar_gz(text, 1, [Artifact("a", 1, "0" * 64)]),
        lambda: shelf.remove(text),
        lambda: shelf.remove_attempts_except(text, 1),
    ):
        with pytest.raises(JobNotFound):
            call()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "0" * 63, "../" + "0" * 61, "A" * 64, "0" * 64 + "\n", "0" * 64])
def test_unknown_content(shelf: Shelf, sha256: str) -> None:
    """A sha256 that is malformed or not kept is an artifact that is not found."""
    job_id = new_id()
    shelf.open(job_id, 1).keep("a", [b"x"])

    with pytest.raises(ArtifactNotFound):
        shelf.open_file(job_id, 1, sha256)


def test_crash_leftovers(shelf: Shelf, tmp_path: Path) -> None:
    """What a killed worker left of the same attempt, half files included, is gone when the attempt is opened again."""
    job_id = new_id()
    shelf.open(job_id, 1).keep("old", [b"old"])
    folder = tmp_path / "data" / "artifacts" / job_id / "1"
    (folder / ".half").write_bytes(b"ha")

    kept = shelf.open(job_id, 1).keep("new", [b"new"])

    assert files_below(folder) == [kept.sha256]


@pytest.mark.parametrize("error", [RunStopped("cancelled"), OSError("the engine hung up"), KeyboardInterrupt()])
def test_broken_source(shelf: Shelf, tmp_path: Path, error: BaseException) -> None:
    """When the source of a file fails, its error arrives as it is, and nothing of the file stays."""

    def blocks() -> Iterator[bytes]:
        yield b"begin"
        raise error

    with pytest.raises(type(error)) as caught:
        shelf.open(new_id(), 1).keep("a", blocks())

    assert caught.value is error
    assert files_below(tmp_path) == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 64 KB: a disk's refusal without a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_refusing_disk(shelf: Shelf, tmp_path: Path) -> None:
    """A disk that takes no more is an infrastructure fault, told without a path of this machine; no half file stays."""
    writer = shelf.open(new_id(), 1)

    with pytest.raises(StorageFailed, match=r"^cannot keep an artifact: File too large$") as caught:
        writer.keep("big", [bytes(50 << 10), bytes(50 << 10)])

    assert caught.value.reason == "storage_failed"
    assert files_below(tmp_path) == []


def test_root_is_not_a_folder(tmp_path: Path) -> None:
    """A data folder that cannot hold files is a storage fault, not a crash."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(StorageFailed):
        Shelf(tmp_path / "file").open(new_id(), 1)


def test_stale_writer(shelf: Shelf, tmp_path: Path) -> None:
    """An attempt that was overtaken and removed cannot add files any more, and does not touch the winner's."""
    job_id = new_id()
    stale = shelf.open(job_id, 1)
    stale.keep("a", [b"stale"])
    kept = shelf.open(job_id, 2).keep("a", [b"winner"])

    shelf.remove_attempts_except(job_id, 2)

    with pytest.raises(StorageFailed):
        stale.keep("b", [b"late"])
    assert files_below(tmp_path) == [f"data/artifacts/{job_id}/2/{kept.sha256}"]


def test_removed_while_it_writes(shelf: Shelf, tmp_path: Path) -> None:
    """A file that is being written when its attempt is removed does not come back."""
    job_id = new_id()

    def blocks() -> Iterator[bytes]:
        yield b"one"
        shelf.remove(job_id)
        yield b"two"

    with pytest.raises(StorageFailed):
        shelf.open(job_id, 1).keep("a", blocks())

    assert list((tmp_path / "data" / "artifacts").iterdir()) == []


def test_remove(shelf: Shelf, tmp_path: Path) -> None:
    """Removing a job removes all its attempts and nobody else's; doing it again is fine."""
    job_id, other_id = new_id(), new_id()
    for fence in (1, 2):
        shelf.open(job_id, fence).keep("a", [b"x"])
    shelf.open(other_id, 1).keep("a", [b"x"])

    shelf.remove(job_id)
    shelf.remove(job_id)
    shelf.remove_attempts_except(job_id, 1)

    assert [path.name for path in (tmp_path / "data" / "artifacts").iterdir()] == [other_id]


def test_context_manager(shelf: Shelf, tmp_path: Path) -> None:
    """A writer left by an exception discards its files; one left normally keeps them."""
    job_id = new_id()
    with shelf.open(job_id, 1) as writer:
        kept = writer.keep("a", [b"x"])
    with contextlib.suppress(RunStopped), shelf.open(job_id, 2) as writer:
        writer.keep("a", [b"x"])
        raise RunStopped

    assert files_below(tmp_path) == [f"data/artifacts/{job_id}/1/{kept.sha256}"]


def test_concurrent_writers(shelf: Shelf, tmp_path: Path) -> None:
    """Threads that keep equal and different files at once leave each content once and whole."""
    job_id = new_id()
    writer = shelf.open(job_id, 1)
    contents = [bytes([number % 5]) * 100_000 for number in range(40)]

    def keep_half(start: int) -> None:
        for number in range(start, 40, 2):
            writer.keep(f"f{number}", [contents[number][:7], contents[number][7:]])

    threads = [threading.Thread(target=keep_half, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    folder = tmp_path / "data" / "artifacts" / job_id / "1"
    assert files_below(folder) == sorted({hashlib.sha256(content).hexdigest() for content in contents})
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == name for name in files_below(folder))


def test_concurrent_removers(shelf: Shelf, tmp_path: Path) -> None:
    """Several processes may remove the same job at once; all succeed and nothing is left."""
    job_id = new_id()
    for fence in range(10):
        writer = shelf.open(job_id, fence)
        for number in range(20):
            writer.keep("a", [b"%d" % number])
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            shelf.remove(job_id)
        except StorageFailed as error:
            failures.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert list((tmp_path / "data" / "artifacts").iterdir()) == []


def test_archive(shelf: Shelf) -> None:
    """The archive has every file under its listed name, in the listed order, readable by tar, with neutral headers."""
    job_id = new_id()
    writer = shelf.open(job_id, 1)
    names = ["index.html", "b/empty", *ODD]
    kept = [writer.keep(name, [name.encode() * 500] if name != "b/empty" else []) for name in names]

    archive = tarfile.open(fileobj=io.BytesIO(b"".join(shelf.tar_gz(job_id, 1, kept))), mode="r:gz")  # noqa: SIM115

    members = archive.getmembers()
    assert [member.name for member in members] == names
    assert {(member.mode, member.uid, member.gid, member.mtime, member.type) for member in members} == {
        (0o644, 0, 0, 0, tarfile.REGTYPE)
    }
    for name, member in zip(names, members, strict=True):
        content = archive.extractfile(member)
        assert content is not None
        assert content.read() == (name.encode() * 500 if name != "b/empty" else b"")


def test_archive_is_deterministic_and_streamed(shelf: Shelf) -> None:
    """The same artifacts give the same bytes, and no block is larger than what one file block packs to."""
    job_id = new_id()
    noise = os.urandom(1 << 20)
    kept = shelf.open(job_id, 1).keep("noise", [noise])

    first, second = list(shelf.tar_gz(job_id, 1, [kept])), list(shelf.tar_gz(job_id, 1, [kept]))

    assert first == second
    assert max(map(len, first)) < (300 << 10)
    assert noise in gzip.decompress(b"".join(first))


@pytest.mark.parametrize("name", [*HOSTILE, "a\ud800"])
def test_archive_refuses_wandering_names(shelf: Shelf, name: str) -> None:
    """A name that could leave the folder an archive is unpacked in never gets into one."""
    job_id = new_id()
    kept = shelf.open(job_id, 1).keep("a", [b"x"])

    with pytest.raises(ValueError, match=r"plain relative path|surrogates"):
        shelf.tar_gz(job_id, 1, [Artifact(name, kept.size, kept.sha256)])


def test_archive_checks_before_the_first_byte(shelf: Shelf, tmp_path: Path) -> None:
    """A file that is missing or damaged is told before the archive begins, not in the middle of it."""
    job_id = new_id()
    kept = shelf.open(job_id, 1).keep("a", [b"xyz"])
    with pytest.raises(ArtifactNotFound):
        shelf.tar_gz(job_id, 1, [kept, Artifact("b", 1, "0" * 64)])

    (tmp_path / "data" / "artifacts" / job_id / "1" / kept.sha256).write_bytes(b"x")
    with pytest.raises(StorageFailed, match="1 bytes instead of 3"):
        shelf.tar_gz(job_id, 1, [kept])


def test_zip(shelf: Shelf) -> None:
    """A zip holds every file under its own name and is the same each time; only a backslash is spelled out."""
    job_id, big = new_id(), os.urandom(600_000)
    with shelf.open(job_id, 1) as writer:
        kept = [writer.keep(path, [content]) for path, content in (("a/ü.txt", b"1"), ("b\\..\\c", b""), ("big", big))]

    packed = b"".join(shelf.zip(job_id, 1, kept))

    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a/ü.txt": b"1",
            "b%5C..%5Cc": b"",
            "big": big,
        }
    assert packed == b"".join(shelf.zip(job_id, 1, kept))


def test_zip_is_streamed(shelf: Shelf) -> None:
    """A zip is made a block at a time, and a reader who leaves in the middle leaves no open file."""
    job_id = new_id()
    with shelf.open(job_id, 1) as writer:
        kept = [writer.keep("big", (os.urandom(1 << 20) for _ in range(8)))]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    blocks = shelf.zip(job_id, 1, kept)
    first = next(block for block in blocks if block)

    assert len(first) < 1 << 20
    blocks.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("path", HOSTILE)
def test_zip_of_hostile_names(shelf: Shelf, path: str) -> None:
    """No zip leads out of the folder that it is unpacked in."""
    job_id = new_id()
    with shelf.open(job_id, 1) as writer:
        kept = [writer.keep(path, [b""])]

    with pytest.raises(ValueError, match="not a plain relative path"):
        shelf.zip(job_id, 1, kept)
