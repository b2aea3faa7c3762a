"""The tree of an earlier job, for another one: what it was given, with what it made laid over it."""

from __future__ import annotations

from collections.abc import Callable

from artifacts import Shelf
from errors import ArtifactNotFound, InvalidRequest, JobNotFound, Mistake, SourceNotFound, SourceNotReady
from jobs import Job
from paths import path_fault
from store import Store
from tree import Room, Tree, too_large

#: What a record says of where its artifacts lay when they are the project's own paths.
WHOLE_PROJECT = "."


class Earlier:
    """Earlier jobs, as far as their requests and artifacts are still kept."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._shelf = shelf

    def tree(self, job_id: str, here: str, room: Room, sees: Callable[[str], bool]) -> Tree:
        """The files and dependencies of a job's request, its artifacts put back into the folder they were found in.

        `sees` says whether whoever asks sees what belongs to a tenant.

        Raises:
            SourceNotFound: There is no such job, or it was removed.
            SourceNotReady: It has not ended.
            InvalidRequest: Together that is more than a project may hold.
        """
        try:
            job = self._seen(job_id, sees)
            if not job.status.is_final:
                raise SourceNotReady([Mistake(here, f"The job is {job.status}; it must have ended.")])
            request = self._store.known_request(job_id)
            made = self._artifacts(job, here, room)
        except (JobNotFound, ArtifactNotFound):
            raise SourceNotFound([Mistake(here, "There is no such job, or it was removed.")]) from None
        return made.over(Tree(request.files, request.binary, request.dependencies))

    def _seen(self, job_id: str, sees: Callable[[str], bool]) -> Job:
        job = self._store.get(job_id)
        if not sees(job.tenant):
            raise JobNotFound(f"no job {job_id}")
        return job

    def _artifacts(self, job: Job, here: str, room: Room) -> Tree:
        total = sum(artifact["size"] for artifact in job.artifacts)
        if total > room.bytes:
            raise InvalidRequest([too_large(here, total, room)])
        folder = job.result.get("outputDir") or WHOLE_PROJECT
        contents = {}
        for artifact in job.artifacts:
            path = artifact["path"] if folder == WHOLE_PROJECT else f"{folder}/{artifact['path']}"
            if path_fault(path) is None:  # a file of a name that no project may have stays behind
                with self._shelf.open_file(job.id, job.fence, artifact["sha256"]) as file:
                    contents[path] = file.read()
        return Tree.of(contents)
