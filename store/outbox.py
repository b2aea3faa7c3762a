"""The webhooks still to be sent: kept until accepted, each leased to one sender at a time."""

from __future__ import annotations

from collections.abc import Sequence

from jobs import Delivery
from store.connection import LONGEST_BLOCK_S, Connection, translated


class Outbox(Connection):
    """Deliveries enter with the moves that cause them (lua/common.lua) and leave here."""

    def claim_deliveries(self, owner: str, limit: int, lease_ms: int) -> list[Delivery]:
        """Take up to `limit` deliveries that are due. One that is not settled within `lease_ms` is due again."""
        rows = self._run("claim_deliveries", owner, limit, lease_ms, once=True)
        return [_delivery(row) for row in rows]

    def accept_delivery(self, delivery: Delivery) -> None:
        """The receiver has it: forget it, whoever holds its lease by now."""
        # Cut in half, this leaves an id without a delivery, which claim_deliveries drops.
        with translated(), self._pipeline() as pipe:
            pipe.delete(self._key("delivery", delivery.id)).zrem(self._key("outbox"), delivery.id).execute()

    def retry_delivery(self, delivery: Delivery, delay_ms: int, note: str) -> None:
        """Try again after `delay_ms`; `note` says what went wrong. Ignored if another sender took it over."""
        self._run("retry_delivery", delivery.id, delivery.attempt, delay_ms, note[:500])

    def give_up_delivery(self, delivery: Delivery, note: str) -> None:
        """Stop trying; the delivery is listed with its note. Ignored if another sender took it over."""
        self._run("give_up_delivery", delivery.id, delivery.attempt, note[:500])

    def given_up(self, limit: int = 50) -> list[tuple[Delivery, str]]:
        """Results that nobody accepted, the newest first, each with the note of its end."""
        with translated():
            ids = [name.decode() for name in self._redis.zrevrange(self._key("given_up"), 0, limit - 1)]
            with self._pipeline() as pipe:
                for name in ids:
                    pipe.hmget(self._key("delivery", name), *_STORED, "note")
                rows = pipe.execute()
        return [
            (_delivery([name.encode(), *row]), (row[-1] or b"").decode())
            for name, row in zip(ids, rows, strict=True)
            if row[0]
        ]

    def redeliver(self, delivery_id: str) -> bool:
        """Try a delivery that was given up again, from now on; False if it is not listed."""
        return bool(self._run("redeliver", delivery_id) == b"ok")

    def wait_for_deliveries(self, timeout_s: float) -> None:
        """Block until a delivery may be due, at most `timeout_s` (and 5) seconds."""
        with translated():
            with self._pipeline() as pipe:
                first, (seconds, micros) = pipe.zrange(self._key("outbox"), 0, 0, withscores=True).time().execute()
            due_in_s = first[0][1] / 1000 - seconds - micros / 1e6 if first else timeout_s
            block_s = min(timeout_s, due_in_s, LONGEST_BLOCK_S)
            if block_s > 0:
                self._blocking.bzpopmin(self._key("outbox_bell"), timeout=max(block_s, 0.001))


_STORED = ("job_id", "event", "attempt", "created_ms", "seq")


def _delivery(row: Sequence[bytes]) -> Delivery:
    """A delivery from its id and the fields of _STORED."""
    name, job_id, event, attempt, created_ms, seq = row[:6]
    return Delivery(name.decode(), job_id.decode(), event.decode(), int(attempt), int(created_ms), int(seq))
