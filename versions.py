"""What a worker does about named functions: keeps the trees that make versions, and brings them to their calls."""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import replace

from artifacts import Shelf, Writer
from errors import StorageFailed
from jobs import Call, Conclusion, Job, Limits, Package, Quota, Reason, Result
from store import Store

#: How many files a version may have, those of its dependencies included.
MAX_FILES = 20_000


class Versions:
    """Over the store that knows versions and a shelf of their trees, by the jobs that made them."""

    def __init__(self, store: Store, shelf: Shelf, quota: Quota, tree_bytes: int) -> None:
        """`tree_bytes` is the most that one version may have."""
        self._store = store
        self._shelf = shelf
        self._quota = quota
        self._tree_bytes = tree_bytes

    def limits(self, usual: Limits) -> Limits:
        """The limits of a job that makes a version."""
        return replace(usual, artifact_bytes=self._tree_bytes, artifact_files=MAX_FILES)

    def writer(self, job: Job) -> Writer:
        """What takes the tree of a job that makes a version."""
        return self._shelf.open(job.id, job.fence)

    def tree(self, call: Call | None) -> list[bytes]:
        """What the call begins with: the tree of its version, if it has one; not read, but mapped.

        Raises:
            ArtifactNotFound: The version was removed.
        """
        if call is None or call.package is None or not call.package.size:
            return []
        kept = call.package
        with self._shelf.open_file(kept.job_id, kept.fence, kept.sha256) as file:
            # Never closed: what ends a run early may still hold a part of it, and the map goes with its last user.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return [memoryview(content)]  # type: ignore[list-item]  # sent like bytes

    def settled(self, job: Job, call: Call, result: Result) -> Result:
        """The result of a job that made a version, or did not: its tree is no artifact, but what calls begin with."""
        if result.conclusion is not Conclusion.SUCCESS:
            self._discard(job)
            return result
        (tree,) = result.artifacts
        package = Package(job.id, job.fence, tree.sha256, tree.size)
        answer = self._store.settle_version(call.name, call.version, package, self._quota)
        if answer == "ok":
            self._shelf.remove_attempts_except(job.id, job.fence)
            return replace(result, artifacts=(), detail={**result.detail, "packageBytes": tree.size})
        self._discard(job)
        reason, message = _REFUSED[answer]
        return replace(result, conclusion=reason.conclusion, reason=reason, message=message, artifacts=())

    def _discard(self, job: Job) -> None:
        with contextlib.suppress(StorageFailed):
            self._shelf.remove(job.id)


_REFUSED = {
    "gone": (Reason.FUNCTION_REMOVED, "the version was removed before it was made, or another job makes it"),
    "full": (Reason.ARTIFACT_TOO_LARGE, "there is no room for this version: all functions together are at their bound"),
}
