"""Whether a Redis server can keep what this service promises."""

from __future__ import annotations

from typing import Any

from errors import StoreUnavailable, StoreUnsuitable
from store.connection import Connection, translated

OLDEST = (6, 2)


class Suitability(Connection):
    """Asked once, when the service starts."""

    def check_suitable(self) -> None:
        """Return if the server is suitable.

        Raises:
            StoreUnavailable: It does not answer, or has not read its file yet: until then it calls that file off.
            StoreUnsuitable: With everything that is wrong, and what to set, in one text.
        """
        with translated():
            facts = self._redis.info()
        if facts.get("loading"):
            raise StoreUnavailable("Redis still reads its file")
        if wrong := shortcomings(facts):
            raise StoreUnsuitable("Redis cannot keep the jobs safe: " + "; ".join(wrong))

    def now_s(self) -> float:
        """The server's clock, as Unix seconds."""
        with translated():
            seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)


def shortcomings(facts: dict[str, Any]) -> list[str]:
    """What speaks against a server, from its INFO."""
    version = str(facts["redis_version"])
    policy = facts.get("maxmemory_policy", "noeviction")
    checks = [
        (
            tuple(int(part) for part in version.split(".")[:2]) < OLDEST,
            f"its version is {version}, at least {OLDEST[0]}.{OLDEST[1]} is needed",
        ),
        (facts.get("role") != "master", "it is a replica; give the address of its primary"),
        (bool(facts.get("cluster_enabled")), "it is part of a cluster; one server is needed"),
        (policy != "noeviction", f"it throws data away when full (maxmemory-policy {policy}; set noeviction)"),
        (not facts.get("aof_enabled"), "it forgets what it accepted when it is restarted (appendonly no; set yes)"),
        (facts.get("aof_last_write_status", "ok") != "ok", "it cannot write its append-only file; is the disk full?"),
    ]
    return [text for is_wrong, text in checks if is_wrong]
