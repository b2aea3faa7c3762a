"""The only code that speaks Redis: job records, the line they wait in, leases, logs and the webhooks' outbox."""

from __future__ import annotations

from store.admission import Admission
from store.connection import AT_FAILURE
from store.functions import Function, Functions, Version
from store.keeping import Keeping
from store.keyring import Keyring
from store.lanes import Lanes
from store.listing import HEAVY, Listing
from store.metering import Figures, Metering
from store.moves import Moves
from store.outbox import Outbox
from store.queues import ALL, Queues
from store.rating import Rating
from store.reading import Reading
from store.results import Results
from store.schedules import Schedules
from store.suitability import Suitability
from store.values import (
    DELIVERY_STATES,
    Closure,
    Closures,
    DeadLetter,
    Happening,
    Lane,
    Listed,
    Page,
    Query,
    Retention,
    Rules,
    Story,
    Submitted,
    Waiting,
    WorkerSeen,
)
from store.watching import Watching
from store.workers import Workers

__all__ = [
    "ALL",
    "AT_FAILURE",
    "DELIVERY_STATES",
    "HEAVY",
    "Closure",
    "Closures",
    "DeadLetter",
    "Figures",
    "Function",
    "Happening",
    "Lane",
    "Listed",
    "Page",
    "Query",
    "Retention",
    "Rules",
    "Store",
    "Story",
    "Submitted",
    "Version",
    "Waiting",
    "WorkerSeen",
]


class Store(
    Admission,
    Moves,
    Outbox,
    Lanes,
    Reading,
    Listing,
    Watching,
    Queues,
    Workers,
    Schedules,
    Results,
    Functions,
    Keeping,
    Keyring,
    Rating,
    Metering,
    Suitability,
):
    """All that the service keeps, on one Redis server. Safe to share between threads; opens no connection before use.

    Every method may raise errors.StoreUnavailable: Redis does not answer in time, or refuses writes.
    Its arguments are those of store.connection.Connection.
    """
