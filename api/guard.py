"""The door of the HTTP API: who asks, by the API key, and what that caller may do and see."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from bottle import request, response

from access import ANYBODY, STRANGER, Caller, Conditions, Key, Scope, read_token
from api.meter import Meter
from errors import Forbidden, JobNotFound, Unauthorized
from jobs import Job, is_id
from store import Store

log = logging.getLogger(__name__)

#: How long what is known of a key is used (s): so soon a revocation works in every process.
KNOWN_S = 1.0
MAX_KNOWN = 1_000
#: How coarsely the last use of a key is known (s).
USE_SEEN_S = 60.0
PAGE = 50
#: How many pages of other tenants' things are looked through for one page of one's own.
MAX_PAGES = 20

_CALLER = "chef.caller"
_IDENTIFY = "chef.identify"


class _Placed(Protocol):
    @property
    def cursor(self) -> int: ...


Entry = TypeVar("Entry", bound=_Placed)


def caller() -> Caller:
    """Who makes the current request. Raises Unauthorized for a key that opens nothing."""
    environ = request.environ
    if _CALLER not in environ:
        environ[_CALLER] = environ[_IDENTIFY]()
    found: Caller = environ[_CALLER]
    return found


def own(store: Store, job_id: str) -> Job:
    """A job's record if the caller may see it. Another tenant's job is as unknown as one that never was.

    Raises:
        JobNotFound: Also for what cannot be an id, without asking Redis.
    """
    if not is_id(job_id):
        raise JobNotFound("A job id is job- and 32 hexadecimal digits.")
    job = store.get(job_id)
    if not caller().sees(job.tenant):
        raise JobNotFound(f"no job {job_id}")
    return job


def own_page(
    page_before: Callable[[int | None], list[Entry]], cursor: int | None, tenant_of: Callable[[Entry], str]
) -> tuple[list[Entry], int | None]:
    """Up to PAGE entries that the caller may see, and the cursor of the next page; None at the end of the list.

    `page_before` gives PAGE entries before a cursor, fewer at the end. Among very many entries of others the page can
    have fewer entries than there are: then the cursor leads on.
    """
    found: list[Entry] = []
    for _ in range(MAX_PAGES):
        page = page_before(cursor)
        found += [entry for entry in page if caller().sees(tenant_of(entry))]
        cursor = page[-1].cursor if len(page) == PAGE else None
        if len(found) >= PAGE:
            return found[:PAGE], found[PAGE - 1].cursor
        if cursor is None:
            break
    return found, cursor


@dataclass(frozen=True, slots=True)
class _Known:
    """What Redis said about a key id, and when: by its clock, and by ours."""

    key: Key | None
    any_keys: bool
    at_ms: int
    at: float

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.at


class Guard:
    """Stands before every handler.

    While there are no keys, everybody who can reach the service may do everything, so that must only be this machine:
    not with a listener on a network, and not for requests that a proxy brings in, unless the settings say so.
    """

    def __init__(self, store: Store, conditions: Conditions) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._conditions = conditions
        self._meter = Meter(store, conditions)
        self._known: dict[str, _Known] = {}
        self._used: dict[str, float] = {}

    def over(self, wanted: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """`handler`, for callers who may: `open`, or a scope; with ` all` behind it a key of all tenants is needed.

        What is open is not counted: a probe of the health must not be refused for what others ask.
        """
        scope, _, everywhere = wanted.partition(" ")
        counts_itself = getattr(handler, "counts_itself", False)  # see meter.counting

        @functools.wraps(handler)
        def guarded(**places: str) -> Any:
            request.environ[_IDENTIFY] = self._identify
            if scope == "open":
                return handler(**places)
            who = caller()
            _require(who, Scope(scope), bool(everywhere))
            answer = self._meter.run(who, functools.partial(handler, **places), counts_itself=counts_itself)
            if scope in (Scope.OPERATE, Scope.ADMIN) and request.method != "GET":
                self._note(who)
            return answer

        return guarded

    def seen(self) -> dict[str, str]:
        """Who makes the current request, for the log: address, and key and tenant as far as they are known."""
        who: Caller | None = request.environ.get(_CALLER)
        key = {"key": who.key_id, "tenant": who.tenant} if who and who.key_id else {}
        return {"address": self._meter.address(), **key}

    def _note(self, who: Caller) -> None:
        """A line for what an operator did: by which key, from where."""
        action = f"{request.method} {request.path[:500]}"
        by = {"key": who.key_id or None, "tenant": who.tenant, "address": self._meter.address()}
        log.info("audit", extra={"action": action, **by, "status": response.status_code})

    def _identify(self) -> Caller:
        scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return ANYBODY if self._is_unlocked() else STRANGER
        parts = read_token(token.strip())
        key_id, digest = parts or ("", "")
        known = self._ask(key_id)
        now_ms = known.at_ms + int(known.age_s * 1000)
        if not (parts and known.key and known.key.opens(digest, now_ms)):
            self._meter.failed()
            raise Unauthorized
        self._note_use(known.key, now_ms)
        return known.key.caller

    def _note_use(self, key: Key, now_ms: int) -> None:
        """Write down that a key is in use, at most once in USE_SEEN_S in each process."""
        if time.monotonic() - self._used.get(key.id, -USE_SEEN_S) >= USE_SEEN_S:
            self._store.key_used(key, now_ms)
            self._used[key.id] = time.monotonic()

    def _is_unlocked(self) -> bool:
        proxied = any(name in request.environ for name in ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP"))
        if not (self._conditions.allow_anonymous or (self._conditions.loopback and not proxied)):
            return False
        return not self._ask("").any_keys

    def _ask(self, key_id: str) -> _Known:
        """What is known of a key, at most KNOWN_S old; "" is no key's id, and tells whether there are any."""
        known = self._known.get(key_id)
        if known is None or known.age_s > KNOWN_S:
            at = time.monotonic()  # before the question, so that the answer is never taken for newer than it is
            key, any_keys, now_ms = self._store.find_key(key_id)
            known = _Known(key, any_keys, now_ms, at)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key_id] = known
        return known


def _require(who: Caller, scope: Scope, everywhere: bool) -> None:
    if not who.scopes:
        raise Unauthorized
    if not who.may(scope):
        raise Forbidden(f"This needs a key with the scope {scope}; this one has {', '.join(sorted(who.scopes))}.")
    if everywhere and not who.sees_all:
        raise Forbidden("This concerns all tenants: it needs a key of the tenant *.")
