"""The webhooks still to be sent: kept until accepted, a lane for each endpoint, each delivery leased to one sender."""

from __future__ import annotations

from errors import LeaseLost
from events import Delivery, Event, News, Try
from neighbours import word
from store.connection import LONGEST_BLOCK_S, Connection, translated
from store.records import BROKEN

NOTE_CHARS = 500
#: How many deliveries may be on their way to one endpoint at once, over all processes.
AT_ONCE = 4


class Outbox(Connection):
    """Deliveries enter with the moves that cause them (lua/common.lua) and are settled here."""

    def claim_deliveries(self, endpoint: str, limit: int, lease_ms: int) -> tuple[list[Delivery], int]:
        """Take up to `limit` deliveries that are due, and learn for how many ms nothing else can be (at most a second).

        One that is not settled within `lease_ms` is due again. There are never more than four with all senders
        together, and none for an endpoint that is disabled.
        """
        wait_ms, rows = self._run("claim_deliveries", endpoint, limit, lease_ms, AT_ONCE, once=True)
        taken = [(name, _readable(name, fields)) for name, fields in rows]
        for name, delivery in taken:
            if delivery is None:
                self._run("drop_delivery", name)
        return [delivery for _, delivery in taken if delivery], wait_ms

    def accept_delivery(self, delivery: Delivery, tried: Try) -> None:
        """The receiver has it, whoever holds its lease by now."""
        self._settle(delivery, "accepted", tried)

    def retry_delivery(self, delivery: Delivery, delay_ms: int, tried: Try) -> None:
        """Try again after `delay_ms`. Ignored if another sender took it over."""
        self._settle(delivery, "retry", tried, delay_ms)

    def give_up_delivery(self, delivery: Delivery, tried: Try) -> None:
        """Stop trying; it is listed as exhausted. Ignored if another sender took it over."""
        self._settle(delivery, "exhausted", tried)

    def disable_endpoint(self, delivery: Delivery, tried: Try) -> None:
        """The receiver is gone for good: keep this and all that comes until the endpoint is enabled again."""
        self._settle(delivery, "disabled", tried)

    def hold_delivery(self, delivery: Delivery, lease_ms: int, path: str = "", storage_id: str = "") -> None:
        """Have `lease_ms` more for it from now on, and note the id under which the receiver stored the file at `path`.

        Raises:
            LeaseLost: Another sender has it. What was stored is noted all the same.
        """
        if self._run("hold_delivery", delivery.id, delivery.fence, lease_ms, path, storage_id) != b"ok":
            raise LeaseLost(f"{delivery.id} is with another sender")

    def stored_files(self, delivery: Delivery) -> dict[str, str]:
        """What hold_delivery() noted within six days: path -> the receiver's id."""
        with translated():
            found = self._redis.hgetall(self._key("stored", delivery.id))
        return {path.decode(): storage_id.decode() for path, storage_id in found.items()}

    def wait_for_deliveries(self, endpoint: str, timeout_s: float) -> None:
        """Block until a delivery may be due, at most `timeout_s` (and 5) seconds."""
        with translated():
            block_s = max(0.001, min(timeout_s, LONGEST_BLOCK_S))
            self._blocking.bzpopmin(self._key("outbox_bell", endpoint), timeout=block_s)

    def _settle(self, delivery: Delivery, verdict: str, tried: Try, delay_ms: int = 0) -> None:
        note = tried.note[:NOTE_CHARS]
        self._run(
            "settle_delivery", delivery.id, delivery.fence, verdict, delay_ms, tried.status, tried.duration_ms, note
        )


def _readable(name: bytes, reply: list[bytes]) -> Delivery | None:
    """The delivery of a hash as a script answers it, or None if it is broken."""
    pairs = iter(reply)
    try:
        return delivery_of(name, dict(zip(pairs, pairs, strict=True)))
    except BROKEN:
        return None


def delivery_of(name: bytes, stored: dict[bytes, bytes]) -> Delivery:
    """A delivery from its id and its hash. Raises one of BROKEN if it cannot be read."""
    texts = {field.decode(): value.decode(errors="replace") for field, value in stored.items()}
    news = News(
        status=texts.get("status", ""),
        attempt=int(texts.get("job_attempt", 0)),
        progress=int(texts.get("progress", 0)),
        phase=texts.get("phase", ""),
        at_ms=int(texts.get("at_ms", 0)),
        reason=texts.get("reason", ""),
        message=texts.get("message", ""),
    )
    numbers = {field: int(texts[field]) for field in ("attempt", "fence", "created_ms", "seq")}
    event = word(Event, texts["event"])
    return Delivery(name.decode(), texts["job_id"], event, texts["endpoint"], news=news, **numbers)
