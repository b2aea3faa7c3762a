"""Counts requests against rate limits: buckets that all processes share."""

from __future__ import annotations

import json
from collections.abc import Sequence

from errors import RateLimited
from rates import Rate, Taken
from store.connection import Connection


class Rating(Connection):
    """Counting is one call for all the buckets of a request, and can be part of the call that the request makes."""

    def take(self, rates: Sequence[Rate]) -> tuple[Taken, ...]:
        """Count one request. Raises RateLimited: then it is counted nowhere."""
        return taken_of(rates, self._run("take", rates_argument(rates)))


def rates_argument(rates: Sequence[Rate]) -> str:
    """The buckets as the scripts read them; "" for none."""
    return json.dumps([[rate.bucket, rate.every_us, rate.per_minute] for rate in rates]) if rates else ""


def taken_of(rates: Sequence[Rate], reply: Sequence[int]) -> tuple[Taken, ...]:
    """What the scripts answer about buckets. Raises RateLimited if a bucket was empty."""
    if not rates:
        return ()
    refused, wait_us, *states = reply
    pairs = zip(rates, states[0::2], states[1::2], strict=True)
    taken = tuple(Taken(rate, remaining, -(-full_us // 1_000_000)) for rate, remaining, full_us in pairs)
    if refused:
        raise RateLimited(taken[refused - 1], wait_us / 1_000_000, taken)
    return taken
