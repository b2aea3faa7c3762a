"""The only code that speaks Redis: job records, the line they wait in, leases, logs and the webhooks' outbox."""

from __future__ import annotations

from store.moves import Moves
from store.outbox import Outbox
from store.reading import Reading


class Store(Moves, Outbox, Reading):
    """All that the service keeps, on one Redis server. Safe to share between threads; opens no connection before use.

    Every method may raise errors.StoreUnavailable: Redis does not answer in time, or refuses writes.
    """
