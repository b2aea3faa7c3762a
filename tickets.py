"""Short-lived links: a ticket stands for one job until a moment, and only this service can make one.

A ticket is 52 letters and digits, so that it can be a host's name: job, moment and a code (HMAC-SHA256, 96 bits).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import hashlib
import hmac
import os
import secrets
import struct
from pathlib import Path

from errors import ChefError, StorageFailed

KEY_BYTES = 32
CODE_BYTES = 12
_BODY = struct.Struct(">16sI")
LENGTH = 52


class TicketInvalid(ChefError):
    """The ticket was not made here, or its time is over."""

    code = "preview_not_found"


class Tickets:
    """Makes and reads tickets. All processes that share the key's file accept each other's."""

    def __init__(self, key_file: Path) -> None:
        """The file is made with the first ticket, with a random key that only the service's user can read."""
        self._key_file = key_file

    def make(self, job_id: str, expires_s: int) -> str:
        """A ticket for a job until a moment (Unix s). Raises StorageFailed."""
        body = _BODY.pack(bytes.fromhex(job_id.removeprefix("job-")), expires_s)
        return base64.b32encode(body + self._code(body)).decode().rstrip("=").lower()

    def job_id(self, ticket: str, now_s: float) -> str:
        """The job that a ticket stands for. Raises TicketInvalid, StorageFailed."""
        body, code = _parts(ticket)
        if not hmac.compare_digest(code, self._code(body)):
            raise TicketInvalid("There is no such preview.")
        job, expires_s = _BODY.unpack(body)
        if now_s >= expires_s:
            raise TicketInvalid("The time of this preview is over; ask for another one.")
        return f"job-{job.hex()}"

    def _code(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:CODE_BYTES]

    @functools.cached_property
    def _key(self) -> bytes:
        try:
            return self._read() or self._made()
        except OSError as error:
            raise StorageFailed(f"the key of previews: {error.strerror or type(error).__name__}") from error

    def _read(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self._key_file.read_bytes()
        return b""

    def _made(self) -> bytes:
        """The key that is in the file afterwards; another process may be quicker."""
        self._key_file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._key_file.with_name(f".{self._key_file.name}-{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._key_file)
        finally:
            draft.unlink()
        return self._key_file.read_bytes()


def _parts(ticket: str) -> tuple[bytes, bytes]:
    try:
        raw = base64.b32decode(ticket.upper() + "=" * (-len(ticket) % 8)) if len(ticket) == LENGTH else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _BODY.size + CODE_BYTES:
        raise TicketInvalid("There is no such preview.")
    return raw[: _BODY.size], raw[_BODY.size :]
