"""Event streams over HTTP: one job from any point to its end, or all jobs; resumed with Last-Event-ID."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from bottle import request, response

from api import feeds
from api.feeds import KINDS, AllFeed, Feed, JobFeed, Place, place_of
from api.guard import caller, own
from api.handover import HandedOver
from api.query import Query
from api.streams import Streams
from api.watch import Watch
from store import Store

#: A client that was cut off comes back after this long (ms).
RETRY_MS = 1_000


class Live:
    """One method for each route."""

    def __init__(self, store: Store, watch: Watch, streams: Streams) -> None:
        """Keep the parts; nothing is opened."""
        self._store = store
        self._watch = watch
        self._streams = streams

    def of_job(self, job_id: str) -> bytes | Iterator[bytes]:
        """What happened to a job so far and happens from now on; ends with it. 204 if the caller has seen the end."""
        kinds, place = _asked()
        job = own(self._store, job_id)
        feed = JobFeed(job_id, kinds, place or feeds.START)
        if place and job.status.is_final and not JobFeed(job_id, kinds, place).read(self._store)[0]:
            response.status = 204
            return b""
        return self._stream(feed)

    def of_all(self) -> bytes | Iterator[bytes]:
        """What happens to any job from now on, or since the event that Last-Event-ID names."""
        kinds, place = _asked()
        tenant = None if caller().sees_all else caller().tenant
        return self._stream(AllFeed(kinds, place or feeds.whole(self._store.newest_happening()), tenant))

    def _stream(self, feed: Feed) -> bytes | Iterator[bytes]:
        self._watch.start()
        only_head = request.method == "HEAD"
        if only_head:
            self._streams.require_room()
        else:
            self._streams.reserve()
        response.content_type = "text/event-stream"
        response.set_header("X-Accel-Buffering", "no")  # nginx would hold events back
        return b"" if only_head else self._begun(feed)

    def _begun(self, feed: Feed) -> Iterator[bytes]:
        """The first words, sent by the server with the head; the rest comes from the streams' thread."""
        chunked = request.environ["SERVER_PROTOCOL"] != "HTTP/1.0"  # as the server itself decides
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
        except GeneratorExit:  # the client has gone already
            self._streams.give_up()
            raise
        raise HandedOver(functools.partial(self._streams.open, feed, chunked))


def _asked() -> tuple[tuple[str, ...], Place | None]:
    """Which kinds of events are wanted, and after which place. An id that is not ours counts as none."""
    asked = Query()
    kinds = asked.words("events", KINDS) or KINDS
    last = asked.text("lastEventId") or request.get_header("Last-Event-ID", "")
    asked.check()
    return kinds, place_of(last)
