"""Named functions in the store: versions, the current one, quotas, and what is no longer needed."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import redis

from errors import FunctionNotFound, FunctionNotReady, FunctionQuota
from jobs import Call, JobType, Package, Quota, Request, new_id
from store import Store

REQUEST = Request(JobType.FUNCTION, {}, env={"A": "ü"}, call=Call("node", "index.mjs", "handler", name="days"))
QUOTA = Quota(functions=2, versions=3, bytes=1_000)


def put(store: Store, name: str = "days", quota: Quota = QUOTA) -> tuple[int, Package, list[str]]:
    """A new version: its number, the package that its job would make, and the jobs of what made room."""
    job_id = new_id()
    number, unused = store.put_version(name, REQUEST, job_id, quota)
    return number, Package(job_id, 1, f"{number:064x}", 100), unused


def ready(store: Store, name: str = "days") -> tuple[int, Package]:
    """A new version that can be called."""
    number, package, _ = put(store, name)
    assert store.settle_version(name, number, package, QUOTA) == "ok"
    return number, package


def test_version_is_current_once_it_is_made(store: Store) -> None:
    """A version can be called from when its job has made it, with the request that it was kept with."""
    number, package, _ = put(store)
    assert store.current_version("days") is None

    assert store.settle_version("days", number, package, QUOTA) == "ok"

    current = store.current_version("days")
    assert current is not None
    assert (current.number, current.package, current.request, current.job_id) == (1, package, REQUEST, package.job_id)
    assert store.function("days").current == 1


def test_newer_version_stays_current(store: Store) -> None:
    """A version that takes longer than its successor does not take its place."""
    first, slow, _ = put(store)
    second, _ = ready(store)

    assert store.settle_version("days", first, slow, QUOTA) == "ok"

    assert store.function("days").current == second


def test_rolling_back(store: Store) -> None:
    """Rolling back stays in force until a new version is kept, whatever older jobs still end."""
    first, _ = ready(store)
    late, late_package, _ = put(store)
    ready(store)
    store.roll_back("days", first)

    store.settle_version("days", late, late_package, QUOTA)
    assert store.function("days").current == first

    newest, _ = ready(store)
    assert store.function("days").current == newest


def test_rolling_back_to_what_is_not_there(store: Store) -> None:
    """Only a version that can be called can be rolled back to."""
    ready(store)
    unfinished, _, _ = put(store)

    with pytest.raises(FunctionNotReady):
        store.roll_back("days", unfinished)
    for name, number in (("days", 9), ("other", 1)):
        with pytest.raises(FunctionNotFound):
            store.roll_back(name, number)


def test_old_versions_make_room(store: Store) -> None:
    """The oldest versions go, never the current one, and their jobs are named once."""
    _, first = ready(store)
    _, second = ready(store)
    store.roll_back("days", 1)

    _, _, unused = put(store)
    assert unused == []
    _, _, unused = put(store)

    assert unused == [second.job_id]
    assert [version.number for version in store.function("days").versions] == [4, 3, 1]
    kept = {version.job_id for version in store.function("days").versions}
    assert first.job_id in kept
    assert set(store.remove_function("days")) == kept


def test_settling_what_was_removed(store: Store) -> None:
    """A job whose version is gone, or is another job's, changes nothing."""
    number, package, _ = put(store)
    store.remove_function("days")
    assert store.settle_version("days", number, package, QUOTA) == "gone"

    again, _, _ = put(store)
    assert again == number
    assert store.settle_version("days", number, package, QUOTA) == "gone"
    assert store.current_version("days") is None


def test_room_for_all(store: Store) -> None:
    """All trees together stay below their bound; removing gives the room back, settling twice takes it once."""
    number, package, _ = put(store, "a")
    large = replace(package, size=901)
    assert [store.settle_version("a", number, each, QUOTA) for each in (package, package)] == ["ok", "ok"]
    other, _, _ = put(store, "b")
    in_b = replace(large, job_id=store.function("b").versions[0].job_id)

    assert store.settle_version("b", other, in_b, QUOTA) == "full"

    store.remove_function("a")
    assert store.settle_version("b", other, in_b, QUOTA) == "ok"


def test_number_of_functions(store: Store) -> None:
    """There are so many functions and no more; new versions of those that are there do not count."""
    for name in ("a", "b", "a"):
        ready(store, name)

    with pytest.raises(FunctionQuota, match="2 functions"):
        put(store, "c")

    assert [each.name for each in store.functions()] == ["a", "b"]
    with pytest.raises(FunctionNotFound):
        store.function("c")


def test_repeated_call(store: Store) -> None:
    """The same call again, as after a lost answer, makes no second version."""
    job_id = new_id()

    numbers = [store.put_version("days", REQUEST, job_id, QUOTA)[0] for _ in range(2)]

    assert numbers == [1, 1]


def test_taking_a_version_back(store: Store) -> None:
    """A version whose job was not taken in goes again, and a function without any with it."""
    ready(store)
    number, _, _ = put(store)
    only, _, _ = put(store, "other")

    store.take_back_version("days", number)
    store.take_back_version("other", only)

    assert [version.number for version in store.function("days").versions] == [1]
    with pytest.raises(FunctionNotFound):
        store.function("other")


def test_removed_functions_leave_nothing(store: Store, redis_url: str) -> None:
    """After the last function only the counter of bytes is left, at zero."""
    for _ in range(5):
        ready(store)
    store.remove_function("days")

    client = redis.Redis.from_url(redis_url)
    keys = {key.decode() for key in client.scan_iter("cw:*")} - {"cw:counters"}
    assert keys == {"cw:functions_bytes"}
    assert client.get("cw:functions_bytes") == b"0"
    client.close()
    with pytest.raises(FunctionNotFound):
        store.remove_function("days")


def test_many_at_once(store: Store) -> None:
    """Versions that are kept at the same time have numbers of their own."""
    numbers: list[int] = []
    wide = replace(QUOTA, versions=50)
    threads = [threading.Thread(target=lambda: numbers.append(put(store, quota=wide)[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(numbers) == list(range(1, 21))
