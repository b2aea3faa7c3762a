"""What can be asked and done about deliveries and the endpoints they go to: the delivery log, and its repair."""

from __future__ import annotations

import json
from collections.abc import Iterable

from errors import NotFound
from store.connection import Connection, translated
from store.outbox import delivery_of
from store.records import BROKEN
from store.values import Lane, Listed


class Lanes(Connection):
    """A lane is what waits for one endpoint. Progress leaves the log when it was sent; all else stays with its job."""

    def deliveries_of(self, job_id: str) -> list[Listed]:
        """All deliveries of a job that are kept, the oldest first."""
        with translated():
            names = list(self._redis.smembers(self._key("told", job_id)))
        return sorted(self._listed(names), key=lambda each: each.cursor)

    def deliveries(self, state: str, before: int | None = None, limit: int = 50) -> list[Listed]:
        """Deliveries in one of DELIVERY_STATES, newest first; for the next page pass the last one's cursor."""
        newest = f"({before}" if before is not None else "+inf"
        with translated():
            lanes = self._lane_names()
            with self._pipeline() as pipe:
                for lane in lanes:
                    pipe.zrevrangebyscore(self._key(state, lane), newest, "-inf", 0, limit, withscores=True)
                found = [each for page in pipe.execute() for each in page]
        found.sort(key=lambda each: -float(each[1]))
        return self._listed([name for name, _ in found[:limit]])

    def resend(self, delivery_id: str) -> None:
        """Send a delivery again, from now on and with all its tries. Raises NotFound."""
        if self._run("resend", delivery_id) != b"ok":
            raise NotFound("There is no such delivery, or its job was removed.")

    def enable_endpoint(self, endpoint: str) -> None:
        """Send to an endpoint again that said it is gone for good."""
        with translated():
            self._redis.hdel(self._key("endpoint", endpoint), "disabled_ms", "disabled_note")

    def lanes(self, also: Iterable[str] = ()) -> dict[str, Lane]:
        """How it stands with each endpoint that there ever was something for, and with those in `also`."""
        with translated():
            names = sorted({*also, *self._lane_names()})
            with self._pipeline() as pipe:
                for lane in names:
                    pipe.zcard(self._key("pending", lane)).zcard(self._key("exhausted", lane))
                    pipe.hgetall(self._key("endpoint", lane)).zrange(self._key("pending", lane), 0, 0)
                rows = pipe.execute()
            lags = self._ages_ms([row[0] if row else b"" for row in rows[3::4]])
        figures = zip(names, rows[0::4], rows[1::4], lags, rows[2::4], strict=True)
        return {name: _lane(pending, exhausted, lag, stored) for name, pending, exhausted, lag, stored in figures}

    def _ages_ms(self, ids: list[bytes]) -> list[int]:
        """For how long these deliveries exist; 0 for those that do not."""
        with self._pipeline() as pipe:
            for name in ids:
                pipe.hget(self._key("delivery", name.decode()), "created_ms")
            *moments, (seconds, micros) = pipe.time().execute()
        now_ms = seconds * 1000 + micros // 1000
        return [max(0, now_ms - int(moment)) if moment else 0 for moment in moments]

    def _lane_names(self) -> list[str]:
        return [name.decode() for name in self._redis.smembers(self._key("lanes"))]

    def _listed(self, ids: list[bytes]) -> list[Listed]:
        """Deliveries by their ids, without those that are gone or broken."""
        with translated(), self._pipeline() as pipe:
            for name in (each.decode() for each in ids):
                lane = name.rpartition(".")[2]
                pipe.hgetall(self._key("delivery", name))
                pipe.zscore(self._key("outbox", lane), name).zscore(self._key("posting", lane), name)
            rows = pipe.execute()
        listed = (_entry(*each) for each in zip(ids, rows[0::3], rows[1::3], rows[2::3], strict=True))
        return [each for each in listed if each]


def _lane(pending: int, exhausted: int, lag_ms: int, stored: dict[bytes, bytes]) -> Lane:
    def text(name: str) -> str:
        return stored.get(name.encode(), b"").decode(errors="replace")

    def number(name: str) -> int:
        return int(stored.get(name.encode(), 0))

    return Lane(
        pending,
        exhausted,
        lag_ms,
        last_ms=number("last_ms"),
        last_status=number("last_status"),
        last_note=text("last_note"),
        accepted_ms=number("accepted_ms"),
        disabled_ms=number("disabled_ms"),
        disabled_note=text("disabled_note"),
    )


def _entry(name: bytes, stored: dict[bytes, bytes], due: float | None, leased_until: float | None) -> Listed | None:
    try:
        tries = tuple(json.loads(stored.get(b"tries", b"[]")))
        moment = int(due or leased_until or 0)
        tenant = stored.get(b"tenant", b"").decode()
        return Listed(
            delivery_of(name, stored), stored[b"state"].decode(), moment, tries, int(stored[b"number"]), tenant
        )
    except BROKEN:
        return None
