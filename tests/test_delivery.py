"""The courier against real receivers: lanes, schedule, giving up, disabling, and what it survives."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import delivery as courier_module
import webhook
from delivery import Courier
from events import Endpoint
from payload import Form
from store import Listed, Store
from submission import Options
from tests.store_cases import SUCCESS, next_job, request
from tests.test_webhook_delivery import Answer, Server, says

SECRET = webhook.new_secret()
PATHS = {"result": "/r", "progress": "/p"}


def job_told_to(store: Store, *endpoints: str) -> str:
    """The id of a job that has just ended and is told to these endpoints."""
    job = store.submit(request(), Options(webhook=endpoints)).job
    store.finish(job.id, next_job(store).fence, SUCCESS)
    return job.id


@contextlib.contextmanager
def delivering(store: Store, **urls: str) -> Iterator[None]:
    """A courier runs, with an endpoint for each URL."""
    endpoints = {name: Endpoint(url, (SECRET,), PATHS) for name, url in urls.items()}
    courier = Courier(store, endpoints, Form())
    courier.start()
    try:
        yield
    finally:
        courier.stop(5)


def until(found: Callable[[], Any], seconds: float = 5) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return value


def only(store: Store, job_id: str, state: str) -> Listed:
    """The one delivery of a job, once it is in `state`."""

    def found() -> Listed | None:
        (listed,) = store.deliveries_of(job_id)
        return listed if listed.state == state else None

    return until(found)  # type: ignore[no-any-return]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries are milliseconds, and a courier ends soon."""
    monkeypatch.setattr(webhook, "RETRY_DELAYS_S", (0.005,) * 9)
    monkeypatch.setattr(courier_module, "LONGEST_WAIT_S", 0.05)


def in_turn(*answers: Answer) -> Answer:
    """The first request is answered by the first, and so on; the last answers all that follow."""
    left = list(answers)
    lock = threading.Lock()

    def answer(connection: Any) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(connection)

    return answer


def ids(server: Server) -> list[str]:
    return [each.split(b"webhook-id: ")[1].split(b"\r\n")[0].decode() for each in server.requests]


def test_retried_until_accepted(store: Store, quick: None) -> None:
    """A delivery that fails is tried again with the same id and body until it is accepted, and the log has each try."""
    answers = in_turn(says("500 Oops"), says("307 Go", "Location: /"), says("404 Not Found"), says("201 Created"))
    with Server(answers) as server, delivering(store, a=server.url):
        listed = only(store, job_told_to(store, "a"), "accepted")

    assert [each["status"] for each in listed.tries] == [500, 307, 404, 201]
    assert set(ids(server)) == {listed.delivery.message_id}
    assert len({each.partition(b"\r\n\r\n")[2] for each in server.requests}) == 1
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2])["event"] == "job.completed"


def test_exhausted_after_ten_tries(store: Store, quick: None) -> None:
    """A delivery that nobody ever takes is tried ten times and then listed as exhausted, to be resent by hand."""
    with Server(in_turn(*[says("503 Busy")] * 10, says("200 OK"))) as server, delivering(store, a=server.url):
        listed = only(store, job_told_to(store, "a"), "exhausted")
        assert len(listed.tries) == len(server.requests) == 10

        store.resend(listed.delivery.id)

        assert len(only(store, listed.delivery.job_id, "accepted").tries) == 11


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "403 No", "413 Large", "422 Wrong"])
def test_refused_for_good(store: Store, quick: None, status: str) -> None:
    """A refusal that will not pass ends the tries at once."""
    with Server(says(status)) as server, delivering(store, a=server.url):
        assert len(only(store, job_told_to(store, "a"), "exhausted").tries) == 1


def test_retry_after_is_honoured(store: Store, quick: None) -> None:
    """A receiver that asks for time gets it, if it is more than the schedule has."""
    with Server(in_turn(says("429 Many", "Retry-After: 1"), says("200 OK"))) as server, delivering(store, a=server.url):
        listed = only(store, job_told_to(store, "a"), "accepted")

    first, second = (each["at_ms"] for each in listed.tries)
    assert 1_000 <= second - first < 3_000


def test_gone_for_good(store: Store, quick: None) -> None:
    """After a 410 an endpoint gets nothing, others do; enabled again, it gets what waited."""
    with (
        Server(in_turn(says("410 Gone"), says("200 OK"))) as gone,
        Server(says("200 OK")) as alive,
        delivering(store, gone=gone.url, alive=alive.url),
    ):
        first = job_told_to(store, "gone")
        until(lambda: store.lanes()["gone"].disabled_ms)
        second = job_told_to(store, "gone")
        only(store, job_told_to(store, "alive"), "accepted")
        assert len(gone.requests) == 1

        store.enable_endpoint("gone")

        assert [each["status"] for each in only(store, first, "accepted").tries] == [410, 200]
        only(store, second, "accepted")


def test_progress_is_tried_once(store: Store, quick: None) -> None:
    """Progress that is refused is not sent again; the end that follows is."""
    with Server(in_turn(says("500 Oops"), says("200 OK"))) as server, delivering(store, a=server.url):
        job = store.submit(request(), Options(webhook=("a",))).job
        running = next_job(store)
        store.progress(job.id, running.fence, 5, "preparing")
        until(lambda: server.requests and not store.deliveries_of(job.id))
        store.finish(job.id, running.fence, SUCCESS)
        only(store, job.id, "accepted")

    assert [request.split(b" ")[1] for request in server.requests] == [b"/p", b"/r"]


def test_dead_receivers_delay_no_living_one(store: Store) -> None:
    """While one receiver hangs and one refuses connections, results reach a third one long before either's deadline."""

    over = threading.Event()

    def hang(connection: Any) -> None:
        over.wait(20)
        connection.shutdown(socket.SHUT_RDWR)

    with (
        Server(hang) as hanging,
        Server(says("200 OK")) as alive,
        delivering(store, hanging=hanging.url, dead="http://127.0.0.1:1", alive=alive.url),
    ):
        for _ in range(30):
            job_told_to(store, "hanging", "dead", "alive")
        until(lambda: len(store.deliveries("accepted")) == 30)
        waits = [each.tries[-1]["at_ms"] - each.delivery.created_ms for each in store.deliveries("accepted")]
        assert len(hanging.requests) <= courier_module.PARALLEL
        over.set()

    assert statistics.median(waits) < 1_000
    assert max(waits) < 5_000 < 1_000 * webhook.DEADLINE_S


def test_at_most_four_at_once(store: Store, quick: None) -> None:
    """A receiver never has more than four deliveries at once, however many couriers there are."""
    lock = threading.Lock()
    now, most = 0, 0

    def slow(connection: Any) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        says("200 OK")(connection)

    with Server(slow) as server, delivering(store, a=server.url), delivering(store, a=server.url):
        for _ in range(40):
            job_told_to(store, "a")
        until(lambda: not store.lanes()["a"].pending)

    assert most == 4
    assert len(set(ids(server))) == len(server.requests) == 40


def test_endpoint_that_is_not_in_the_settings(store: Store, quick: None) -> None:
    """What is meant for an endpoint that the settings do not name any more runs out in its time, and says why."""
    job_id = job_told_to(store, "old")

    with delivering(store):
        listed = only(store, job_id, "exhausted")

    assert len(listed.tries) == 10
    assert listed.tries[0]["note"] == "the settings name no such endpoint"


def test_broken_records_harm_no_other(store: Store, quick: None) -> None:
    """A result whose record is broken or gone is given up; those behind it arrive."""
    broken, gone, good = (job_told_to(store, "a") for _ in range(3))
    store._redis.hset(f"cw:job:{broken}", "result", "[1")
    store._redis.delete(f"cw:job:{gone}")

    with Server(says("200 OK")) as server, delivering(store, a=server.url):
        only(store, good, "accepted")
        until(lambda: not store.lanes()["a"].pending)

    assert len(server.requests) == 1


def test_stop_leaves_nothing_half_done(store: Store, quick: None) -> None:
    """Told to stop, a courier finishes what it is posting and takes nothing new."""
    reached, answer_now = threading.Event(), threading.Event()

    def slow(connection: Any) -> None:
        reached.set()
        answer_now.wait(5)
        says("200 OK")(connection)

    with Server(slow) as server:
        courier = Courier(store, {"a": Endpoint(server.url, (SECRET,), PATHS)}, Form())
        first = job_told_to(store, "a")
        courier.start()
        assert reached.wait(5)
        stopping = threading.Thread(target=courier.stop, args=(5,))
        stopping.start()
        until(courier._lanes["a"]._stopping.is_set)
        second = job_told_to(store, "a")
        answer_now.set()
        stopping.join()

    assert only(store, first, "accepted").state == "accepted"
    assert only(store, second, "pending").tries == ()
