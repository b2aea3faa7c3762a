"""What the tests of the server let gunicorn load: the API with short waits, its jobs stored without Huey."""

from __future__ import annotations

from bottle import Bottle

import config
from api import server
from app import create_app
from artifacts import Shelf
from store import Store

#: How long the server under test waits for one read or write (s).
IO_SECONDS = 0.5
server.STALL_SECONDS = IO_SECONDS


def wsgi() -> Bottle:
    """The API over the Redis of the environment."""
    return served(0.4, IO_SECONDS)


def patient() -> Bottle:
    """The same with the patience of a busy machine."""
    return served(10, 30)


def served(store_seconds: float, io_seconds: float) -> Bottle:
    """The API with these waits for Redis and for a client."""
    settings = config.load()
    store = Store(settings.redis_url, timeout_s=store_seconds, retries=0)
    return create_app(settings, store, Shelf(settings.data_dir), store.submit, io_seconds)
