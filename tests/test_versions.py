"""The trees of versions on a real disk: kept by the job that makes one, brought to its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifacts import Shelf
from errors import ArtifactNotFound
from jobs import (
    Artifact,
    Call,
    Conclusion,
    Job,
    JobType,
    Limits,
    Package,
    Quota,
    Reason,
    Request,
    Result,
    Status,
    new_id,
)
from store import Store
from versions import MAX_FILES, Versions

LIMITS = Limits(memory_bytes=1, cpus=1, pids=1, total_s=1, install_s=1, command_s=1)
MAKING = Call("node", "index.mjs", "handler", name="days", version=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "functions"


@pytest.fixture
def versions(store: Store, folder: Path) -> Versions:
    return Versions(store, Shelf(folder), Quota(bytes=100), tree_bytes=50)


def making(store: Store) -> Job:
    """The job of a version that was just kept."""
    job = Job(new_id(), JobType.FUNCTION, Status.ACTIVE, priority=5, created_ms=0, fence=1)
    store.put_version("days", Request(JobType.FUNCTION, {}, call=MAKING), job.id, Quota())
    return job


def packed(versions: Versions, job: Job, content: bytes = b"tree") -> Artifact:
    """What the run of a job has kept."""
    return versions.writer(job).keep("tree.tar", [content])


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_made_and_called(store: Store, versions: Versions) -> None:
    """A tree that was made is no artifact of its job, and the calls of the version begin with it."""
    job = making(store)
    tree = packed(versions, job)

    result = versions.settled(job, MAKING, Result(Conclusion.SUCCESS, artifacts=(tree,)))

    assert (result.artifacts, result.detail["packageBytes"]) == ((), 4)
    current = store.current_version("days")
    assert current is not None
    assert current.package == Package(job.id, 1, tree.sha256, 4)
    call = Call("node", "index.mjs", "handler", name="days", version=1, package=current.package)
    assert [bytes(block) for block in versions.tree(call)] == [b"tree"]


def test_no_tree_for_what_has_its_files(versions: Versions) -> None:
    """Jobs of other types, and calls with their code, begin with nothing."""
    for call in (None, Call("node", "index.mjs", "handler"), MAKING):
        assert versions.tree(call) == []


def test_removed_version(versions: Versions) -> None:
    """A version that was removed has no tree."""
    call = Call("node", "a.mjs", "f", name="days", version=1, package=Package(new_id(), 1, "0" * 64, 4))

    with pytest.raises(ArtifactNotFound):
        versions.tree(call)


def test_failed_job_leaves_nothing(store: Store, versions: Versions, folder: Path) -> None:
    """A job that made no version leaves no file, and ends as it did."""
    job = making(store)
    packed(versions, job)
    failed = Result(Conclusion.FAILURE, Reason.FUNCTION_FAILED, "no")

    assert versions.settled(job, MAKING, failed) is failed
    assert files(folder) == []


def test_version_removed_meanwhile(store: Store, versions: Versions, folder: Path) -> None:
    """A job whose version was removed ends with that as its reason."""
    job = making(store)
    tree = packed(versions, job)
    store.remove_function("days")

    result = versions.settled(job, MAKING, Result(Conclusion.SUCCESS, artifacts=(tree,)))

    assert (result.conclusion, result.reason) == (Conclusion.CANCELLED, Reason.FUNCTION_REMOVED)
    assert files(folder) == []


def test_no_room(store: Store, versions: Versions, folder: Path) -> None:
    """A tree for which there is no room among all functions is refused, and nothing of it stays."""
    job = making(store)
    tree = packed(versions, job, b"x" * 101)

    result = versions.settled(job, MAKING, Result(Conclusion.SUCCESS, artifacts=(tree,)))

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.ARTIFACT_TOO_LARGE)
    assert files(folder) == []


def test_limits(versions: Versions) -> None:
    """The tree of a version has a bound of its own."""
    limits = versions.limits(LIMITS)

    assert (limits.artifact_bytes, limits.artifact_files) == (50, MAX_FILES)
