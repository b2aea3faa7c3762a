"""Where requests may come from: the names that the service answers to, and the web pages that may use it.

A browser lets any page send requests to this machine. What protects it: a name that the page's owner leads here (DNS
rebinding) is not one of ours, and what a page sends is told by its Origin.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from bottle import HTTPError, HTTPResponse, request, response

from addresses import is_local_name

ANY = "*"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
_SAFE = ("GET", "HEAD", "OPTIONS")
#: What a page of an allowed origin may send and read, and for how long a browser remembers that (s).
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, Range, "
    "traceparent, tracestate, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_READABLE = (
    "Content-Disposition, Content-Range, ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-Log-Complete, "
    "X-Next-Offset, X-Request-Id"
)


class Origins:
    """Stands before all routes. `hosts` are names beside the local ones, `pages` origins such as https://app.test."""

    def __init__(self, hosts: Iterable[str], pages: Iterable[str]) -> None:
        """`*` among the hosts stands for any, `*.host` for one name below a host."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._pages = frozenset(page.lower() for page in pages)
        self._is_ours = functools.lru_cache(maxsize=1_000)(self._names_us)

    def admit(self) -> None:
        """Let the current request through; answer a browser's question before an allowed page's request (preflight).

        Raises:
            HTTPError: 400 without a Host, 421 with one that is not ours, 403 for a page that may not change anything.
            HTTPResponse: The answer to a preflight.
        """
        if "HTTP_HOST" not in request.environ:
            if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
                raise HTTPError(400)
        elif not self._is_ours(request.environ["HTTP_HOST"]):
            raise HTTPError(421)
        origin = request.environ.get("HTTP_ORIGIN", "").lower()
        if origin in self._pages and request.method == "OPTIONS":
            raise HTTPResponse(status=204, headers=_PREFLIGHT)
        if origin and request.method not in _SAFE and not self._may_use(origin):
            raise HTTPError(403)

    def tell(self) -> None:
        """Let a page of an allowed origin read the current answer."""
        if not self._pages:
            return
        response.add_header("Vary", "Origin")
        if request.get_header("Origin", "").lower() in self._pages:
            response.set_header("Access-Control-Allow-Origin", request.get_header("Origin"))
            response.set_header("Access-Control-Expose-Headers", _READABLE)

    def _names_us(self, host: str) -> bool:
        """Whether a Host names this service. Addresses and names without public DNS always do: no page has such."""
        named = _HOST.fullmatch(host)
        name = named[1].lower() if named else ""
        bare = name.rstrip(".")
        names = {ANY, bare, f"*.{bare.partition('.')[2]}"}
        return bool(name) and (bool(names & self._hosts) or is_local_name(name))

    def _may_use(self, origin: str) -> bool:
        return origin in self._pages or urlsplit(origin).netloc == request.get_header("Host", "").lower()
