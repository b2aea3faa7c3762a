"""The webhooks still to be sent: kept until accepted, each leased to one sender at a time."""

from __future__ import annotations

from jobs import Delivery
from store.connection import LONGEST_BLOCK_S, Connection, translated


class Outbox(Connection):
    """Deliveries enter with the moves that cause them (lua/common.lua) and leave here."""

    def claim_deliveries(self, owner: str, limit: int, lease_ms: int) -> list[Delivery]:
        """Take up to `limit` deliveries that are due. One that is not settled within `lease_ms` is due again."""
        rows = self._run("claim_deliveries", owner, limit, lease_ms, once=True)
        return [
            Delivery(
                id=row[0].decode(),
                job_id=row[1].decode(),
                event=row[2].decode(),
                attempt=int(row[3]),
                created_ms=int(row[4]),
                seq=int(row[5]),
            )
            for row in rows
        ]

    def accept_delivery(self, delivery: Delivery) -> None:
        """The receiver has it: forget it, whoever holds its lease by now."""
        # No transaction: a full server refuses those. Cut in half, this leaves an id that claim_deliveries drops.
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(self._key("delivery", delivery.id)).zrem(self._key("outbox"), delivery.id).execute()

    def retry_delivery(self, delivery: Delivery, delay_ms: int, note: str) -> None:
        """Try again after `delay_ms`; `note` says what went wrong. Ignored if another sender took it over."""
        self._run("retry_delivery", delivery.id, delivery.attempt, delay_ms, note[:500])

    def give_up_delivery(self, delivery: Delivery, note: str) -> None:
        """Stop trying; the delivery is listed with its note. Ignored if another sender took it over."""
        self._run("give_up_delivery", delivery.id, delivery.attempt, note[:500])

    def wait_for_deliveries(self, timeout_s: float) -> None:
        """Block until a delivery may be due, at most `timeout_s` (and 5) seconds."""
        with translated():
            with self._redis.pipeline(transaction=False) as pipe:
                first, (seconds, micros) = pipe.zrange(self._key("outbox"), 0, 0, withscores=True).time().execute()
            due_in_s = first[0][1] / 1000 - seconds - micros / 1e6 if first else timeout_s
            block_s = min(timeout_s, due_in_s, LONGEST_BLOCK_S)
            if block_s > 0:
                self._blocking.bzpopmin(self._key("outbox_bell"), timeout=max(block_s, 0.001))
