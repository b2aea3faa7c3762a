"""Shows a built site in a browser, for a while: the one place where what a job made may run, away from all else.

Without PREVIEW_URL a site is below /preview/ of this API, in a sandbox whose origin is nobody's: its scripts run, but
reach no storage and nothing of the API. With PREVIEW_URL each preview is a host of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from bottle import request, response

from api import wire
from api.answers import file_answer, json_answer
from api.guard import own
from artifacts import Shelf
from config import Settings
from errors import ArtifactNotFound, JobNotFound, MoveRefused
from jobs import Job, iso
from pages import TEXTS, NoPage, Site
from store import Store
from tickets import TicketInvalid, Tickets

#: A longer text is sent as it is.
MAX_MOVED_BYTES = 8 << 20
_RUNS = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-pointer-lock"
_OWN_HOST = "chef.preview_host"


class Previews:
    """Makes links to what a job built, and serves what they lead to."""

    def __init__(self, settings: Settings, store: Store, shelf: Shelf) -> None:
        """Nothing is opened."""
        self._tickets = Tickets(settings.data_dir / "preview.key")
        self._seconds = int(settings.preview_minutes * 60)
        self._place = settings.preview_url or ""
        self._public_url = settings.public_url or ""
        self._store = store
        self._shelf = shelf

    def make(self, job_id: str) -> bytes:
        """A link to the site that a job built, and until when it leads there."""
        job = own(self._store, job_id)
        if not job.status.is_final:
            raise MoveRefused(f"{job_id} is {job.status}: there is something to see when it has ended.")
        _site(job)
        expires_s = int(time.time()) + self._seconds
        ticket = self._tickets.make(job_id, expires_s)
        return json_answer({"jobId": job_id, "url": self._address(ticket), "expiresAt": iso(expires_s * 1000)}, 201)

    def lead(self, environ: dict[str, Any]) -> None:
        """Lead a request to a preview's own host to that preview, whatever its path: no other route is there."""
        label, _, rest = environ.get("HTTP_HOST", "").lower().partition(".")
        if self._place and rest == urlsplit(self._place).netloc.removeprefix("*."):
            environ["PATH_INFO"] = f"/preview/{label}{environ['PATH_INFO']}"
            environ[_OWN_HOST] = True

    def show(self, ticket: str, path: str | None = None) -> Iterable[bytes]:
        """One file of the site."""
        request.environ["bottle.raw_path"] = f"/preview/…/{path or ''}"  # the log is not to hold what opens it
        job = self._job(ticket)
        if path is None:
            response.status = 307
            response.set_header("Location", f"{request.path}/")
            return []
        site = _site(job)
        found = site.file(path, navigates="text/html" in request.get_header("Accept", ""))
        if found is None:
            raise ArtifactNotFound("The site has no such file.")
        _let_run()
        artifact = next(each for each in job.artifacts if each["path"] == found)
        own = bool(request.environ.get(_OWN_HOST))
        prefix = "/" if own else f"/preview/{ticket}/"
        return self._sent(job, artifact, site, prefix)

    def _sent(self, job: Job, artifact: dict[str, Any], site: Site, prefix: str) -> Iterable[bytes]:
        path, is_moved = artifact["path"], prefix != "/" and artifact["path"].endswith(TEXTS)
        etag = f'"{artifact["sha256"]}{"-moved" if is_moved else ""}"'
        response.set_header("ETag", etag)
        response.set_header("Cache-Control", "private, no-cache")
        if wire.is_unchanged(request.get_header("If-None-Match", ""), etag):
            response.status = 304
            return []
        stream = self._shelf.open_file(job.id, job.fence, artifact["sha256"])
        if not is_moved or artifact["size"] > MAX_MOVED_BYTES:
            return file_answer(stream, path, artifact["size"], etag)
        with stream:
            text = stream.read().decode("utf-8", "surrogateescape")
        response.content_type = wire.content_type(path)
        return [site.moved(path, text, prefix).encode("utf-8", "surrogateescape")]

    def _job(self, ticket: str) -> Job:
        try:
            return self._store.get(self._tickets.job_id(ticket, time.time()))
        except JobNotFound:
            raise TicketInvalid("The job of this preview was removed.") from None

    def _address(self, ticket: str) -> str:
        if self._place:
            return self._place.replace("*", ticket, 1) + "/"
        here = self._public_url or f"{request.urlparts.scheme}://{request.urlparts.netloc}"
        return f"{here}/preview/{ticket}/"


def _site(job: Job) -> Site:
    try:
        return Site([artifact["path"] for artifact in job.artifacts])
    except NoPage as error:
        raise ArtifactNotFound(str(error)) from None


def _let_run() -> None:
    """In place of the headers that everything else gets."""
    own = request.environ.get(_OWN_HOST)
    response.set_header("Content-Security-Policy", f"{_RUNS} allow-same-origin" if own else _RUNS)
    # A page whose origin is nobody's asks for its own scripts as a stranger.
    response.set_header("Access-Control-Allow-Origin", "*")
    response.set_header("Cross-Origin-Resource-Policy", "cross-origin")
    response.set_header("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), usb=()")
