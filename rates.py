"""How many requests are taken in a minute: the vocabulary of rate limits. The counting is in lua/common.lua."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket of `per_minute` requests that is refilled evenly over a minute.

    `policy` names the kind of limit in the headers, `bucket` whose requests are counted together.
    """

    policy: str
    bucket: str
    per_minute: int

    @property
    def every_us(self) -> int:
        """How long it takes until one more request is in the bucket (microseconds)."""
        return WINDOW_S * 1_000_000 // self.per_minute


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left in a bucket: `remaining` requests at once, and `full_s` seconds until it is full again."""

    rate: Rate
    remaining: int
    full_s: int


def headers(taken: Sequence[Taken]) -> dict[str, str]:
    """The RateLimit fields of an answer (draft-ietf-httpapi-ratelimit-headers-10)."""
    if not taken:
        return {}
    policies = (f'"{each.rate.policy}";q={each.rate.per_minute};w={WINDOW_S}' for each in taken)
    states = (f'"{each.rate.policy}";r={each.remaining};t={each.full_s}' for each in taken)
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}
