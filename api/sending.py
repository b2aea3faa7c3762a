"""The ways to send a project over HTTP: JSON, a form with an archive, an upload before its job, or the name of one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from bottle import request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

import download
from api import wire
from api.answers import json_answer
from api.guard import caller
from config import Settings
from download import Downloads
from earlier import Earlier
from errors import InvalidRequest, Mistake, SourceNotAllowed, SourceNotFound, SourceUnavailable
from inbox import Inbox, UploadNotFound
from jobs import iso
from origins import ATTACHED, Source
from tree import Room, Tree
from unpack import unpacked

#: The parts of a form, and how long the first may be: it holds no files.
JOB, PROJECT = "job", ATTACHED.field
MAX_JOB_BYTES = 1 << 20
MAX_PARTS = 8


@dataclass(frozen=True, slots=True)
class Received:
    """The body of a submission: its JSON, the project that came with it, and what tells it from other bodies."""

    body: bytes
    attached: Tree | None
    digest: str


class Sending:
    """Reads what is sent, and gets what is named. Archives are checked as they arrive, so mistakes are told at once."""

    def __init__(self, settings: Settings, inbox: Inbox, earlier: Earlier, require_room: Callable[[], None]) -> None:
        """`require_room` raises when the disk is nearly full. Nothing is opened."""
        self._room = Room(settings.max_files, settings.max_project_bytes)
        self._body_bytes = settings.body_bytes
        self._inbox = inbox
        self._downloads = Downloads(settings.snapshot_places, str(settings.requests_ca_bundle or ""))
        self._earlier = earlier
        self._require_room = require_room

    def upload(self) -> bytes:
        """Take an archive as the whole body, for jobs to come: 201 with its id."""
        wire.require_plain(request.environ)
        self._require_room()
        with self._inbox.draft() as file:
            digest = _written(wire.body_blocks(request.environ, self._body_bytes), file)
            size = file.tell()
            tree = _read(file, self._room, "#")
        kept = self._inbox.keep(tree)
        told = {"sha256": digest, "bytes": size, "files": len(tree.paths), "projectBytes": tree.bytes}
        return json_answer({"uploadId": kept.id, **told, "expiresAt": iso(kept.expires_ms)}, 201)

    def received(self) -> Received:
        """The body of this submission: JSON, or a form of JSON and an archive."""
        environ = request.environ
        if wire.is_form(environ):
            wire.require_own_page(environ)
            wire.require_plain(environ)
            return self._form(environ)
        wire.require_json(environ)
        body = wire.read_body(environ, self._body_bytes)
        return Received(body, None, hashlib.sha256(body).hexdigest())

    def bring(self, source: Source) -> Tree:
        """The tree that a submission names. Raises InvalidRequest, pointing to the field."""
        here = source.pointer
        try:
            if source.field == "uploadId":
                return self._inbox.tree(source.value)
            if source.field == "fromJob":
                return self._earlier.tree(source.value, here, self._room, caller().sees)
            content = self._downloads.get(source.value, self._body_bytes)
        except UploadNotFound as error:
            raise SourceNotFound([Mistake(here, f"{error}.")]) from None
        except download.NotAllowed as error:
            raise SourceNotAllowed([Mistake(here, f"The address cannot be used: {error}.")]) from None
        except download.Failed as error:
            raise SourceUnavailable([Mistake(here, f"The snapshot cannot be had: {error}.")]) from None
        return unpacked(io.BytesIO(content), self._room, here)

    def _form(self, environ: dict[str, Any]) -> Received:
        with self._inbox.draft() as file:
            form = _Form(file)
            form.read(_events(environ, self._body_bytes))
            tree = _read(file, self._room, f"#/{PROJECT}") if PROJECT in form.seen else None
        digest = hashlib.sha256(form.job + b"\0" + form.digest.digest()).hexdigest()
        return Received(bytes(form.job), tree, digest)


class _Form:
    """Takes a form apart as it arrives: its job into memory, its project into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.job = bytearray()
        self.digest = hashlib.sha256()
        self.seen: set[str] = set()
        self._file = file
        self._part = ""

    def read(self, events: Iterable[MultipartSegment | bytearray | None]) -> None:
        """Take all parts. Raises InvalidRequest."""
        for event in events:
            if isinstance(event, MultipartSegment):
                self._begin(str(event.name))
            elif event:
                self._take(event)
        if JOB not in self.seen:
            raise _mistake(f"#/{JOB}", f"The form has no part {JOB}, which is the JSON of the submission.")

    def _begin(self, name: str) -> None:
        if name not in (JOB, PROJECT):
            raise _mistake("#", f"The form has another part than {JOB} and {PROJECT}.")
        if name in self.seen:
            raise _mistake(f"#/{name}", f"The form has {name} twice.")
        self.seen.add(name)
        self._part = name

    def _take(self, block: bytearray) -> None:
        if self._part == PROJECT:
            self._file.write(block)
            self.digest.update(block)
            return
        self.job += block
        if len(self.job) > MAX_JOB_BYTES:
            limit = f"at most {MAX_JOB_BYTES:,} are accepted; files belong into {PROJECT}"
            raise _mistake(f"#/{JOB}", f"The part {JOB} has more bytes: {limit}.")


def _events(environ: dict[str, Any], limit: int) -> Iterator[Any]:
    """What the library makes of the body, with its errors as ours."""
    boundary = parse_options_header(environ["CONTENT_TYPE"])[1].get("boundary", "")
    try:
        parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, strict=True)
        for block in wire.body_blocks(environ, limit):
            yield from parser.parse(block)
        parser.close()
    except MultipartError as error:
        raise wire.BodyBroken(f"The form cannot be read: {str(error)[:200]}.") from None


def _written(blocks: Iterable[bytes], file: IO[bytes]) -> str:
    """The sha256 (hex) of what is now in the file."""
    digest = hashlib.sha256()
    for block in blocks:
        file.write(block)
        digest.update(block)
    return digest.hexdigest()


def _read(file: IO[bytes], room: Room, here: str) -> Tree:
    file.seek(0)
    return unpacked(file, room, here)  # type: ignore[arg-type]  # IO[bytes] is what BinaryIO is


def _mistake(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest([Mistake(pointer, detail)])
