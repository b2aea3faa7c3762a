"""The event streams of one process: one thread writes to all of them, so that none of them holds a worker's thread."""

from __future__ import annotations

import contextlib
import logging
import queue
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from api.feeds import AllFeed, Feed, JobFeed, Told
from api.watch import Crowded
from errors import StoreUnavailable
from store import Happening, Store

log = logging.getLogger(__name__)

#: A stream that has said nothing for so long (s) says a comment, so that nobody on the way closes it.
PING_S = 15.0
#: A reader that takes nothing for so long (s) is left.
STUCK_S = 30.0
#: Unsent bytes from which on nothing more is pushed: the stream reads on from the store once they are sent.
BUFFER_BYTES = 256 << 10
#: The longest sleep (s), and the pause after Redis failed.
TICK_S = 0.5


class Stream:
    """One connection, and what it shows. `behind`: it has to read from the store before it can be told anything."""

    def __init__(self, connection: socket.socket, feed: Feed, chunked: bool, closed: Callable[[], None]) -> None:
        """Takes over the connection; `closed` is called once it is closed."""
        self.connection = connection
        self.feed = feed
        self.closed = closed
        self.behind = True
        self.unsent = bytearray()
        self.last_sent = time.monotonic()
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        """Put data behind what is unsent."""
        if data:
            self.unsent += b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def write_end(self) -> None:
        """Say that this is all."""
        self.unsent += b"0\r\n\r\n" if self._chunked else b""

    def send(self) -> None:
        """Send what the connection takes now. Raises OSError if it is gone."""
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                del self.unsent[: self.connection.send(self.unsent)]
                self.last_sent = time.monotonic()


class Streams:
    """All streams; its thread begins with the first one. The other methods may be called from any thread."""

    def __init__(self, store: Store, limit: int) -> None:
        """Opens nothing. `limit` is how many streams there may be."""
        self._store = store
        self._limit = limit
        self._inbox: queue.SimpleQueue[Stream | list[Happening]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._streams: set[Stream] = set()
        self._of_job: defaultdict[str, set[Stream]] = defaultdict(set)
        self._of_all: set[Stream] = set()
        self._store_rests_until = 0.0
        self._begin = threading.Lock()
        self._coming = 0
        self._thread: threading.Thread | None = None
        self._alarm: socket.socket | None = None
        self._stopping = False

    def __len__(self) -> int:
        """How many streams there are now."""
        return len(self._streams)

    def require_room(self) -> None:
        """Raises Crowded if there are as many streams as may be."""
        if len(self) + self._coming >= self._limit or self._stopping:
            raise Crowded(f"There are {self._limit:,} event streams here, which is the bound. Try again soon.")

    def reserve(self) -> None:
        """Keep a place for a stream that is going to be opened, or else given up. Raises Crowded."""
        with self._begin:
            self.require_room()
            self._coming += 1

    def give_up(self) -> None:
        """A place that was kept is not needed."""
        with self._begin:
            self._coming -= 1

    def open(self, feed: Feed, chunked: bool, connection: socket.socket, closed: Callable[[], None]) -> None:
        """Write `feed` to a connection from now on, and close it at the end."""
        connection.setblocking(False)
        self._start()
        self._inbox.put(Stream(connection, feed, chunked, closed))
        self._wake()

    def tell(self, happenings: list[Happening]) -> None:
        """Show what happened to whom it concerns."""
        if self._streams:
            self._inbox.put(happenings)
            self._wake()

    def stop(self) -> None:
        """End all streams. May be called from a signal handler."""
        self._stopping = True
        self._wake()

    def _start(self) -> None:
        with self._begin:
            if self._thread is None:
                self._alarm, heard = socket.socketpair()
                self._alarm.setblocking(False)
                heard.setblocking(False)
                self._selector.register(heard, selectors.EVENT_READ)
                self._thread = threading.Thread(target=self._work, name="streams", daemon=True)
                self._thread.start()

    def _wake(self) -> None:
        if self._alarm:
            with contextlib.suppress(BlockingIOError):  # then it is awake
                self._alarm.send(b"!")

    # From here on, only the one thread.

    def _work(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except Exception:
                log.exception("the event streams end, and begin anew where they were")
                for stream in list(self._streams):
                    self._close(stream)
        self._empty_inbox()
        for stream in list(self._streams):
            stream.write_end()
            self._send(stream)
            self._close(stream)

    def _turn(self) -> None:
        hurry = any(stream.behind and not stream.unsent for stream in self._streams) and self._store_answers()
        for key, _ in self._selector.select(0 if hurry else TICK_S):
            if key.data is None:
                key.fileobj.recv(4096)  # type: ignore[union-attr]  # the alarm
            elif self._is_gone(key.data):
                self._close(key.data)
            else:
                self._send(key.data)
        self._empty_inbox()
        self._catch_up()
        self._keep_alive()

    def _empty_inbox(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._take_in(self._inbox.get_nowait())

    def _take_in(self, message: Stream | list[Happening]) -> None:
        if isinstance(message, list):
            self._deliver(message)
            return
        self._streams.add(message)
        self.give_up()
        self._onlookers(message).add(message)
        self._selector.register(message.connection, selectors.EVENT_READ, message)

    def _onlookers(self, stream: Stream) -> set[Stream]:
        return self._of_job[stream.feed.job_id] if isinstance(stream.feed, JobFeed) else self._of_all

    def _deliver(self, happenings: list[Happening]) -> None:
        concerned = [each for each in happenings if self._of_all or each.job_id in self._of_job]
        told = self._with_output(concerned)
        streams = self._of_all.union(*(self._of_job.get(each.job_id, ()) for each in concerned))
        for stream in streams:
            self._push(stream, told)

    def _with_output(self, happenings: list[Happening]) -> list[Told]:
        logs = [each for each in happenings if each.kind == "log" and self._store_answers()]
        output = {}
        try:
            output = dict(zip((each.id for each in logs), self._store.output_of(logs), strict=True))
        except StoreUnavailable:
            self._rest()
        return [Told(each, output.get(each.id)) for each in happenings]

    def _push(self, stream: Stream, told: list[Told]) -> None:
        for each in told:
            if len(stream.unsent) > BUFFER_BYTES:
                stream.behind = True
            if stream.behind:
                break
            if isinstance(stream.feed, AllFeed) or each.happening.job_id == stream.feed.job_id:  # type: ignore[attr-defined]
                data = stream.feed.take(each)
                stream.behind = data is None
                stream.write(data or b"")
        self._send(stream)

    def _catch_up(self) -> None:
        for stream in list(self._streams):
            if stream.behind and not stream.unsent and self._store_answers():
                try:
                    data, stream.behind = stream.feed.read(self._store)
                except StoreUnavailable:
                    self._rest()
                    return
                stream.write(data)
                self._send(stream)

    def _store_answers(self) -> bool:
        return time.monotonic() >= self._store_rests_until

    def _rest(self) -> None:
        self._store_rests_until = time.monotonic() + TICK_S

    def _keep_alive(self) -> None:
        now = time.monotonic()
        for stream in list(self._streams):
            if stream.unsent and now - stream.last_sent > STUCK_S:
                self._close(stream)
            elif not stream.unsent and now - stream.last_sent > PING_S:
                stream.write(b": ping\n\n")
                self._send(stream)

    def _send(self, stream: Stream) -> None:
        try:
            stream.send()
            if stream.feed.ended and not stream.unsent and not self._stopping:
                stream.write_end()
                stream.send()
                self._close(stream)
        except OSError:
            self._close(stream)
            return
        if stream in self._streams:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.unsent else 0)
            self._selector.modify(stream.connection, wanted, stream)

    def _is_gone(self, stream: Stream) -> bool:
        """True once the reader has closed. What it sends is not read for its meaning."""
        try:
            return not stream.connection.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _close(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        onlookers = self._onlookers(stream)
        onlookers.discard(stream)
        if not onlookers and isinstance(stream.feed, JobFeed):
            del self._of_job[stream.feed.job_id]
        self._selector.unregister(stream.connection)
        stream.connection.close()
        stream.closed()
