"""What the tests of the HTTP API stand on: a client in process, and jobs in each state."""

from __future__ import annotations

import warnings

import config
from access import Scope, new_key
from app import create_app
from artifacts import Shelf
from jobs import Conclusion, Job, OutputChunk, Result
from store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # one of its parts still imports cgi
    from webtest import TestApp


class Client(TestApp):  # type: ignore[misc]  # webtest has no types
    __test__ = False  # its name makes pytest take it for a test


FILES = {
    "index.html": b"<h1>hi</h1>",
    "assets/app ü.js": b"let a = 1",
    "empty.txt": b"",
    "data.bin": bytes(range(256)) * 800,
}
UNKNOWN = "job-" + "0" * 32


def client(store: Store, shelf: Shelf) -> Client:
    """The API over `store`, for projects of at most 3 files and 1 KiB, in bodies of at most 100 KiB."""
    settings = config.load(
        {"MAX_FILES": "3", "MAX_PROJECT_BYTES": "1k", "MAX_BODY_BYTES": "100k", "DATA_DIR": str(shelf._root)}
    )
    return Client(create_app(settings, store, shelf, store.submit))


def key_of(store: Store, tenant: str, *scopes: str, lifetime_ms: int = 0) -> dict[str, str]:
    """The header of a new key; without scopes it has all of them."""
    key, token = new_key(tenant, frozenset(map(Scope, scopes or Scope)))
    store.add_key(key, lifetime_ms)
    return {"Authorization": f"Bearer {token}"}


def finish(store: Store, shelf: Shelf, job: Job, files: dict[str, bytes]) -> Job:
    """The record of `job`, ended well with an artifact for each of `files`."""
    with shelf.open(job.id, job.fence) as writer:
        kept = tuple(writer.keep(path, [content]) for path, content in files.items())
    store.finish(job.id, job.fence, Result(Conclusion.SUCCESS, artifacts=kept))
    return store.get(job.id)


def chunk(first: int, *lines: str, stream: str = "stdout", dropped: tuple[int, int] = (0, 0)) -> OutputChunk:
    """Lines of output, numbered from `first`; `dropped` is (lines, bytes) missing before them."""
    text = "".join(f"{line}\n" for line in lines)
    return OutputChunk(first, len(lines), 1_700_000_000_123, "building", stream, text, *dropped)
