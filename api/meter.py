"""Counts requests: per key and per address, and attempts with a key that opens nothing."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from bottle import request, response

from access import Caller, Conditions
from errors import ChefError, RateLimited
from rates import Rate, Taken, headers
from store import Store

MAX_EMPTY = 10_000

H = TypeVar("H", bound=Callable[..., Any])

_DUE = "chef.rates"


def due() -> tuple[Rate, ...]:
    """What the handler's own call to the store is to count this request against. Asked for, it counts as done."""
    rates: tuple[Rate, ...] = request.environ.pop(_DUE, ())
    return rates


def counting(handler: H) -> H:
    """Marks a handler that counts its request in a call of its own, through due()."""
    handler.counts_itself = True  # type: ignore[attr-defined]
    return handler


def tell(taken: Iterable[Taken]) -> None:
    """Show in the current answer how its rates stand."""
    for name, value in headers(tuple(taken)).items():
        response.set_header(name, value)


Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def client_address(environ: dict[str, Any], trusted: Networks) -> str:
    """Whose request this is: the peer, or what a trusted proxy says that its own peer was.

    Of X-Forwarded-For only the part that trusted proxies wrote counts: the last entry that is not one of them. An IPv6
    network of /64, which one customer has, is one address.
    """
    return _client_address(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", ""), trusted)


@functools.lru_cache(maxsize=1_000)
def _client_address(peer: str, forwarded: str, trusted: Networks) -> str:
    seen = ""
    for text in (peer, *_forwarded(forwarded)):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            break  # what comes before this nobody vouches for
        address = getattr(address, "ipv4_mapped", None) or address
        seen = str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))
        if not any(address in network for network in trusted):
            break
    return seen


def _forwarded(header: str) -> list[str]:
    """The entries from the last to the first: of these, the last came from our own proxy."""
    return [entry.strip() for entry in reversed(header.split(",")[-20:])] if header else []


class Meter:
    """Buckets are in Redis, one call for each request. One that was found empty is remembered here until it is not."""

    def __init__(self, store: Store, conditions: Conditions) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._conditions = conditions
        self._empty: dict[str, tuple[float, RateLimited]] = {}

    def address(self) -> str:
        """Where the current request comes from."""
        return client_address(request.environ, self._conditions.trusted_proxies)

    def run(self, who: Caller, handler: Callable[[], Any], *, counts_itself: bool) -> Any:
        """The handler's answer, counted: before it, or by the handler through due(). Raises RateLimited."""
        rates = self._rates(who)
        self._refuse_if_empty(rates)
        if rates and not counts_itself:
            self._count(rates)
            rates = ()
        request.environ[_DUE] = rates
        try:
            return handler()
        except RateLimited as error:
            raise self._remember(error) from None
        finally:
            with contextlib.suppress(ChefError):  # a request that was refused before it was stored counts too
                self._count(due())

    def failed(self) -> None:
        """Count an attempt with a key that opens nothing. Raises RateLimited once there were too many."""
        if self._conditions.failures_per_minute:
            rates = (Rate("failures", f"failures:{self.address()}", self._conditions.failures_per_minute),)
            self._refuse_if_empty(rates)
            self._count(rates)

    def _rates(self, who: Caller) -> tuple[Rate, ...]:
        rates = []
        if self._conditions.key_per_minute and who.key_id:
            rates.append(Rate("key", f"key:{who.key_id}", self._conditions.key_per_minute))
        if self._conditions.address_per_minute:
            rates.append(Rate("address", f"address:{self.address()}", self._conditions.address_per_minute))
        return tuple(rates)

    def _count(self, rates: tuple[Rate, ...]) -> None:
        if rates:
            try:
                tell(self._store.take(rates))
            except RateLimited as error:
                raise self._remember(error) from None

    def _remember(self, error: RateLimited) -> RateLimited:
        if len(self._empty) >= MAX_EMPTY:
            self._empty.clear()
        self._empty[error.rate.bucket] = (time.monotonic() + error.wait_s, error)
        return error

    def _refuse_if_empty(self, rates: Iterable[Rate]) -> None:
        """Refuse what Redis would refuse, without asking it: a flood costs neither it nor the parsing of bodies."""
        for rate in rates:
            until, error = self._empty.get(rate.bucket, (0.0, None))
            if error and (wait_s := until - time.monotonic()) > 0:
                raise RateLimited(Taken(rate, 0, error.retry_after_s), wait_s, error.taken)
            self._empty.pop(rate.bucket, None)
