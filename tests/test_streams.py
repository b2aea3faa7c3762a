"""Event streams over real sockets: nothing is missed and nothing comes twice, whatever becomes of connections."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api import streams
from api.feeds import JobFeed
from api.streams import Streams
from jobs import Job, Retry
from store import Store
from tests.api_cases import UNKNOWN
from tests.server_cases import Server, running_server, until_healthy
from tests.store_cases import FAULT, SUCCESS, claimed, lines, next_job, request

WAIT_S = 15


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    opened = Store(server.redis_url)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Seen:
    """One event of a stream."""

    id: str
    event: str
    data: Any


class Reader:
    """A client that reads a stream event by event."""

    def __init__(self, server: Server, path: str, last_id: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
        self.connection.request("GET", path, headers={"Last-Event-ID": last_id} if last_id else {})
        self.response = self.connection.getresponse()

    def __iter__(self) -> Iterator[Seen]:
        fields: dict[str, str] = {}
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Seen(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                fields = {}

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def whole(server: Server, path: str) -> list[Seen]:
    """Everything that a stream which ends says."""
    reader = Reader(server, path)
    try:
        return list(reader)
    finally:
        reader.close()


def told(seen: list[Seen]) -> list[tuple[str, Any]]:
    """What was said, without the ids."""
    return [(each.event, each.data) for each in seen]


def run_job(store: Store, job: Job, pieces: int, pause_s: float = 0.0) -> None:
    """Let a claimed job write its log in pieces, with progress between them, and end well."""
    for number in range(pieces):
        stream = random.choice(("stdout", "stderr"))
        store.append_log(job.id, job.fence, [lines(number * 2, f"piece {number}\nof many\n", stream)])
        if number % 5 == 0:
            store.progress(job.id, job.fence, number * 100 // pieces, "building")
        time.sleep(pause_s)
    store.finish(job.id, job.fence, SUCCESS)


def logged(seen: list[Seen]) -> str:
    return "".join(each.data["text"] for each in seen if each.event == "log")


# --- one job ----------------------------------------------------------------------------------------------------------


def test_story_of_a_job(server: Server, store: Store) -> None:
    """A stream tells a job's whole story in order, also afterwards, and ends with it."""
    job = store.add(request(priority=20))
    running = next_job(store)
    store.append_log(job.id, running.fence, [lines(0, "a\n")])
    store.progress(job.id, running.fence, 40, "building")
    store.append_log(job.id, running.fence, [lines(1, "b\nc\n", "stderr")])
    store.finish(job.id, running.fence, SUCCESS)

    seen = whole(server, f"/api/jobs/{job.id}/events")

    assert [(each.event, each.data.get("status", each.data.get("text"))) for each in seen] == [
        ("state", "pending"),
        ("state", "active"),
        ("log", "a\n"),
        ("progress", "active"),
        ("log", "b\nc\n"),
        ("state", "completed"),
    ]
    assert seen[3].data["progress"] == 40
    assert seen[4].data | {"time": ""} == {
        "jobId": job.id, "line": 1, "time": "", "phase": "building", "stream": "stderr", "text": "b\nc\n"
    }  # fmt: skip
    assert (seen[-1].data["conclusion"], seen[-1].data["progress"]) == ("success", 100)


def test_live(server: Server, store: Store) -> None:
    """Who looks on while a job runs sees each piece within a moment, and the same story as who comes afterwards."""
    job = claimed(store, priority=20)
    reader = Reader(server, f"/api/jobs/{job.id}/events")
    events = iter(reader)
    seen = [next(events), next(events)]
    began = time.monotonic()
    store.append_log(job.id, job.fence, [lines(0, "now\n")])
    seen.append(next(events))
    took = time.monotonic() - began
    store.finish(job.id, job.fence, SUCCESS)
    seen += events
    reader.close()

    assert took < 2
    assert told(seen) == told(whole(server, f"/api/jobs/{job.id}/events"))


def test_retried_job(server: Server, store: Store) -> None:
    """An attempt that is followed by another is a state with its reason, and does not end the stream."""
    job = claimed(store, priority=20)
    store.finish(job.id, job.fence, FAULT, Retry(0, "again"))
    store.cancel(job.id)

    seen = whole(server, f"/api/jobs/{job.id}/events?events=state")

    assert [(each.data["status"], each.data["reason"]) for each in seen] == [
        ("pending", None),
        ("active", None),
        ("pending", "runtime_unavailable"),
        ("failed", "cancelled"),
    ]


def test_fifty_broken_connections(server: Server, store: Store) -> None:
    """A stream that is cut 50 times while the job runs, and resumed each time, says what an uncut one says."""
    job = claimed(store, priority=20)
    path = f"/api/jobs/{job.id}/events"
    full: list[Seen] = []
    uncut = threading.Thread(target=lambda: full.extend(whole(server, path)))
    worker = threading.Thread(target=run_job, args=(store, job, 150, 0.01))
    uncut.start()
    worker.start()
    joined, cuts = joined_stream(server, path, 50)
    worker.join()
    uncut.join()

    assert cuts == 50
    assert told(joined) == told(full)
    assert told(joined) == told(whole(server, path))
    assert logged(joined) == "".join(f"piece {number}\nof many\n" for number in range(150))


def joined_stream(server: Server, path: str, cuts: int) -> tuple[list[Seen], int]:
    """What a client puts together that is cut off after one to four events, again and again, then reads to the end."""
    dice = random.Random(7)
    joined: list[Seen] = []
    done = 0
    while True:
        reader = Reader(server, path, joined[-1].id if joined else "")
        if reader.response.status == 204:
            return joined, done
        left = dice.randint(1, 4) if done < cuts else -1
        for seen in reader:
            joined.append(seen)
            left -= 1
            if left == 0:
                break
        reader.close()
        if left == 0:
            done += 1
        else:
            return joined, done


def test_nothing_after_the_end(server: Server, store: Store) -> None:
    """Who has seen the end is told with 204 not to come back; the address of no job is 404."""
    job = claimed(store, priority=20)
    store.finish(job.id, job.fence, SUCCESS)
    last = whole(server, f"/api/jobs/{job.id}/events")[-1]

    assert server.ask("GET", f"/api/jobs/{job.id}/events", headers={"Last-Event-ID": last.id}).status == 204
    assert server.ask("GET", f"/api/jobs/{job.id}/events?lastEventId={last.id}").status == 204
    assert server.ask("GET", f"/api/jobs/{UNKNOWN}/events").status == 404
    assert server.ask("GET", f"/api/jobs/{job.id}/events?events=noise").status == 400


def test_old_protocol_and_head(server: Server, store: Store) -> None:
    """HTTP/1.0 gets the same events without chunks, up to the end of the connection; HEAD gets the head."""
    job = claimed(store, priority=20)
    store.finish(job.id, job.fence, SUCCESS)
    with server.connect() as connection:
        connection.sendall(f"GET /api/jobs/{job.id}/events HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.count(b"\nevent: state\n") == 3
    assert b"\r\n0\r\n" not in answer
    assert server.ask("HEAD", f"/api/jobs/{job.id}/events").headers["Content-Type"] == "text/event-stream"


# --- all jobs ---------------------------------------------------------------------------------------------------------


def test_all_jobs(server: Server, store: Store) -> None:
    """The stream of all jobs, cut and resumed with parts of it unseen, says each thing once."""
    reader = Reader(server, "/api/events")
    jobs = [claimed(store, priority=20) for _ in range(3)]
    for job in jobs:
        run_job(store, job, 10)
    full = until_ends(iter(reader), 3)
    reader.close()
    resumed = Reader(server, "/api/events", full[4].id)
    rest = until_ends(iter(resumed), 3)
    resumed.close()

    assert told(full[5:]) == told(rest)
    for job in jobs:
        of_job = [each for each in full if each.data["jobId"] == job.id]
        assert told(of_job) == told(whole(server, f"/api/jobs/{job.id}/events"))


def until_ends(events: Iterator[Seen], ends: int) -> list[Seen]:
    seen = []
    while ends:
        seen.append(next(events))
        ends -= seen[-1].data.get("status") == "completed"
    return seen


def test_only_what_is_wanted(server: Server, store: Store) -> None:
    """A stream can be of one kind of event."""
    reader = Reader(server, "/api/events?events=state")
    run_job(store, claimed(store, priority=20), 10)
    seen = until_ends(iter(reader), 1)
    reader.close()

    assert [each.data["status"] for each in seen] == ["pending", "active", "completed"]


def test_forgotten_past(server: Server, store: Store) -> None:
    """Who comes back after more has happened than is kept is told that there is a gap."""
    claimed(store, priority=20)
    reader = Reader(server, "/api/events", "1-1.0")
    first = next(iter(reader))
    reader.close()

    assert (first.event, first.data) == ("gap", {"after": "1970-01-01T00:00:00.001Z"})


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_redis_goes_away(server: Server, store: Store) -> None:
    """A stream lives through an absence of Redis and misses nothing of what was kept."""
    job = claimed(store, priority=20)
    reader = Reader(server, f"/api/jobs/{job.id}/events")
    events = iter(reader)
    seen = [next(events), next(events)]
    assert server.redis_process
    server.redis_process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # longer than one answer may take
    server.redis_process.send_signal(signal.SIGCONT)
    until_healthy(server)
    run_job(store, job, 5)
    seen += events
    reader.close()

    assert told(seen) == told(whole(server, f"/api/jobs/{job.id}/events"))


def test_slow_reader(server: Server, store: Store) -> None:
    """A reader that takes nothing for a while keeps nobody else waiting, and misses nothing."""
    job = claimed(store, priority=20)
    with server.connect() as slow:
        slow.sendall(f"GET /api/jobs/{job.id}/events HTTP/1.0\r\n\r\n".encode())
        quick = Reader(server, f"/api/jobs/{job.id}/events?events=state,progress")
        for number in range(250):  # more than the sockets on the way hold
            store.append_log(job.id, job.fence, [lines(number, "x" * 60_000 + "\n")])
        store.finish(job.id, job.fence, SUCCESS)
        began = time.monotonic()
        assert [each.data["status"] for each in quick] == ["pending", "active", "completed"]
        assert time.monotonic() - began < 2
        quick.close()
        answer = b"".join(iter(lambda: slow.recv(1 << 20), b""))

    assert answer.count(b"\nevent: log\n") == 250
    assert answer.count(b"x" * 60_000) == 250


def test_bound(store: Store) -> None:
    """More streams than may be are refused with 503 and when to try again; one that ends makes room."""
    with running_server(MAX_STREAMS="2") as small, contextlib.closing(Store(small.redis_url)):
        readers = [Reader(small, "/api/events") for _ in range(6)]  # two processes share them
        statuses = [reader.response.status for reader in readers]
        refused = readers[-1].response
        for reader in readers:
            reader.close()
        deadline = time.monotonic() + 5
        while small.ask("HEAD", "/api/events").status != 200:
            assert time.monotonic() < deadline

    assert statuses.count(200) <= 4
    assert refused.status == 503
    assert refused.headers["Retry-After"]


def test_shutdown(store: Store) -> None:
    """A server that stops ends its streams as HTTP says, at once, and lets those who wait go on."""
    with running_server() as stopping, contextlib.closing(Store(stopping.redis_url)) as other:
        job = claimed(other)
        readers = [Reader(stopping, "/api/events") for _ in range(10)]
        waited: list[int] = []
        waiter = threading.Thread(
            target=lambda: waited.append(stopping.ask("GET", f"/api/jobs/{job.id}?wait=9").status)
        )
        waiter.start()
        time.sleep(0.3)
        assert stopping.process
        began = time.monotonic()
        stopping.process.send_signal(signal.SIGTERM)
        assert [list(reader) for reader in readers] == [[]] * 10  # a chunked body that is cut raises IncompleteRead
        waiter.join()
        stopping.process.wait(10)
        took = time.monotonic() - began
        for reader in readers:
            reader.close()

    assert waited == [200]
    assert took < 5


@pytest.mark.timeout(90)
def test_a_thousand_streams(server: Server, store: Store) -> None:
    """A thousand streams get every event within a second, on two threads in all, and other requests are answered."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with contextlib.ExitStack() as crowd, selectors.DefaultSelector() as selector:
        heard: dict[socket.socket, bytes] = {}
        for _ in range(1_000):
            reader = crowd.enter_context(server.connect())
            reader.sendall(b"GET /api/events?events=progress HTTP/1.1\r\nHost: x\r\n\r\n")
            heard[reader] = b""
            selector.register(reader, selectors.EVENT_READ)
        hear(selector, heard, lambda text: b"retry: " in text)
        job = claimed(store, priority=20)
        took = []
        for percent in range(1, 21):
            mark = b'"progress":%d,' % percent
            began = time.monotonic()
            store.progress(job.id, job.fence, percent, "building")
            hear(selector, heard, lambda text, mark=mark: mark in text)  # type: ignore[misc]
            took.append(time.monotonic() - began)
        health_s = server.ask("GET", "/api/health").seconds

    print(f"an event reaches 1,000 streams within {sorted(took)[10] * 1e3:.0f} ms, at most {max(took) * 1e3:.0f} ms")
    assert {text.count(b"\nevent: progress") for text in heard.values()} == {20}
    assert sorted(took)[10] < 1
    assert health_s < 0.5


def hear(selector: selectors.BaseSelector, heard: dict[socket.socket, bytes], told: Callable[[bytes], bool]) -> None:
    """Read from all sockets until each has been told."""
    missing = {reader for reader, text in heard.items() if not told(text)}
    deadline = time.monotonic() + 20
    while missing:
        assert time.monotonic() < deadline, f"{len(missing)} streams were not told"
        for key, _ in selector.select(0.5):
            reader: Any = key.fileobj
            heard[reader] += reader.recv(65536)
            if told(heard[reader]):
                missing.discard(reader)


def opened(store: Store, job: Job) -> tuple[socket.socket, threading.Event]:
    """The reader's end of a stream of its own, and what tells that the other end is closed."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    closed = threading.Event()
    Streams(store, 1).open(JobFeed(job.id), False, theirs, closed.set)
    return ours, closed


def test_ping(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has nothing to say says so now and then, and notices that its reader has gone."""
    monkeypatch.setattr(streams, "PING_S", 0.1)
    ours, closed = opened(store, claimed(store, priority=20))
    said = b""
    while b": ping\n\n" not in said:
        said += ours.recv(65536)
    ours.close()

    assert said.count(b"event: state") == 2
    assert closed.wait(5)


def test_stuck_reader(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes nothing at all is left after a while."""
    monkeypatch.setattr(streams, "STUCK_S", 0.2)
    job = claimed(store, priority=20)
    store.append_log(job.id, job.fence, [lines(n, "x" * 60_000 + "\n") for n in range(20)])
    ours, closed = opened(store, job)

    assert closed.wait(5)
    ours.close()


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_wait_for_the_end(server: Server, store: Store) -> None:
    """A request that waits is answered as soon as the job has ended."""
    job = claimed(store, priority=20)
    threading.Timer(0.4, lambda: store.finish(job.id, job.fence, SUCCESS)).start()

    answer = server.ask("GET", f"/api/jobs/{job.id}?wait=9&include=logs")

    assert answer.json["status"] == "completed"
    assert answer.json["logs"]["text"] == ""
    assert 0.3 < answer.seconds < 2
    assert answer.headers["Preference-Applied"] == "wait=9"


def test_wait_for_nothing(server: Server, store: Store) -> None:
    """A job that does not end is answered as it is when the time is over; the preference may come as a header."""
    job = store.add(request())

    answer = server.ask("GET", f"/api/jobs/{job.id}", headers={"Prefer": "respond-async, wait=1"})

    assert answer.json["status"] == "pending"
    assert 0.9 < answer.seconds < 2


def test_many_who_wait(store: Store) -> None:
    """A bounded number of requests waits, on one connection to Redis; the next is 503, and the API answers others."""
    with running_server(MAX_WAITING="20") as busy, contextlib.closing(Store(busy.redis_url)) as other:
        job = claimed(other)
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(busy.ask("GET", f"/api/jobs/{job.id}?wait=8").status))
            for _ in range(60)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 5
        while len(answers) < 20:  # at most 40 of 60 may wait
            assert time.monotonic() < deadline
            time.sleep(0.02)
        health_s = busy.ask("GET", "/api/health").seconds
        clients = other._redis.info("clients")["blocked_clients"]
        other.finish(job.id, job.fence, SUCCESS)
        for thread in threads:
            thread.join()

    assert set(answers) == {200, 503}
    assert health_s < 0.5
    assert clients <= 2  # one for each process
