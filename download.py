"""Fetches a file from another server for a job: from hosts of the settings, once, under caps of bytes and time."""

from __future__ import annotations

import re
import threading
from collections.abc import Set

import requests
import urllib3

from outbound import Adapter, Deadline, cause

DEADLINE_S = 10.0
BLOCK_BYTES = 64 << 10
#: Fetches at a time in one process, so that slow servers leave threads for everybody else.
AT_ONCE = 8
#: Only what every reader of addresses reads in the same way.
_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[!-\[\]-~]*)?")
_PORTS = {"http": "80", "https": "443"}


class NotAllowed(Exception):
    """The address is not one that may be fetched; the text says why."""


class Failed(Exception):
    """The other server did not give the file; the text says why."""


class Downloads:
    """What may be fetched. Threads may share it; importing and making it opens no connection."""

    def __init__(self, places: Set[str], ca_bundle: str = "", *, deadline_s: float = DEADLINE_S) -> None:
        """`places` are hosts, each with a port unless it is the scheme's; `ca_bundle` is as in outbound.Adapter."""
        self._places = places
        self._ca_bundle = ca_bundle
        self._deadline_s = deadline_s
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def get(self, address: str, most_bytes: int) -> bytes:
        """The whole file. Redirects are not followed, and names that lead to private addresses are not asked.

        Raises:
            NotAllowed: The address is malformed, or of another place.
            Failed: Any status but 200, too many bytes, not in time, or too many fetches at once.
        """
        self.check(address)
        if not self._free.acquire(blocking=False):
            raise Failed("too many files are being fetched; try again soon")
        try:
            with Deadline(self._deadline_s, private=False) as deadline:
                try:
                    return self._fetched(address, most_bytes, deadline)
                except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
                    late = f"nothing whole within {self._deadline_s:g} s"
                    raise Failed(late if deadline.passed else f"it does not answer: {cause(error)}") from None
        finally:
            self._free.release()

    def check(self, address: str) -> None:
        """Return if this may be fetched. Raises NotAllowed."""
        match = _ADDRESS.fullmatch(address)
        if not match:
            raise NotAllowed("it is not a plain http or https address")
        scheme, host, port = match[1], match[2].lower(), match[3]
        places = {host, f"{host}:{_PORTS[scheme]}"} if port in (None, _PORTS[scheme]) else {f"{host}:{port}"}
        if not self._places:
            raise NotAllowed("this service fetches from nowhere: neither SNAPSHOT_HOSTS nor CONVEX_URL is set")
        if places.isdisjoint(self._places):
            raise NotAllowed(f"its host is not one of SNAPSHOT_HOSTS: {', '.join(sorted(self._places))}")

    def _fetched(self, address: str, most_bytes: int, deadline: Deadline) -> bytes:
        headers = {"User-Agent": "chef-workers", "Accept-Encoding": "identity"}
        request = requests.Request("GET", address, headers).prepare()
        adapter = Adapter(self._ca_bundle)
        try:
            answer = adapter.send(request, stream=True, timeout=self._deadline_s, verify=self._ca_bundle or True)
            deadline.check()
            if answer.status_code != 200:
                raise Failed(f"it answers {answer.status_code}")
            content = bytearray()
            while block := answer.raw.read1(BLOCK_BYTES, decode_content=False):
                content += block
                if len(content) > most_bytes:
                    raise Failed(f"it sends more than {most_bytes:,} bytes")
            deadline.check()
            if len(content) < int(answer.headers.get("Content-Length", "0") or 0):
                raise Failed("it broke off")
            return bytes(content)
        finally:
            adapter.close()
