"""Sandboxes that wait: a job finds one, nobody finds the same one again, and none outlives its worker."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from errors import EngineFault
from executor import Executor, Wish
from executor.images import Images
from executor.parking import Parking
from executor.spec import KEPT, PARKED
from jobs import Conclusion, Reason
from tests.engine_cases import ENGINE_URL, LIMITS, Bench, Recorder

pytestmark = pytest.mark.engine

#: Bench runs its jobs in slot 7.
SLOTS = 8
SAY = {"package.json": "{}"}


def until(holds: Callable[[], bool], what: str, deadline_s: float = 20) -> None:
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def parking(images: Images, client: docker.DockerClient) -> Iterator[Bench]:
    """Runs jobs in sandboxes that wait; afterwards none is left."""
    executor = Executor(
        ENGINE_URL, images, service=f"test-{secrets.token_hex(4)}", wish=Wish("", "auto", SLOTS, ("node",))
    )
    executor.park(LIMITS)
    until(lambda: executor.parked == SLOTS, "one for each slot")
    made = Bench(executor, client)
    yield made
    executor.close()
    assert made.left_over() == []


def waiting(bench: Bench) -> set[str]:
    """Names of the shells that wait."""
    return {name for name in bench.objects() if name.startswith(PARKED) and name.endswith("-2")}


def starts(bench: Bench) -> dict[str, int]:
    """How many jobs found one that waited (parked), and for how many one was made (cold), since the last call."""
    counted = bench.executor._tally.taken()
    found = {"parked": 0, "cold": 0}
    for name, number in counted.items():
        metric, _, rest = name.partition("|")
        if metric == "container_start_seconds" and not rest.endswith("|sum"):
            found[rest.partition("|")[0]] += number
    return found


def test_a_job_finds_one(parking: Bench) -> None:
    """A job runs in what waited, at once; another waits instead of it; nothing of the job's is left."""
    before = waiting(parking)
    watch = Recorder()

    result = parking.run(
        SAY, command="echo $FROM; ls -A /work/project /work/home; exit 3", env={"FROM": "a-job-of-ours"}, watch=watch
    )

    assert (result.reason, result.exit_code) == (Reason.BUILD_FAILED, 3)
    assert watch.text("stdout").splitlines()[0] == "***"
    assert starts(parking) == {"parked": 1, "cold": 0}
    until(lambda: len(waiting(parking)) == SLOTS, "another in its place")
    assert len(before - waiting(parking)) == 1
    assert parking.left_over(parking.ran[-1]) == []


def test_never_twice(parking: Bench) -> None:
    """What a job leaves in its workspace, in /tmp or running is not there for the next one."""
    places = "/work/mark /work/home/mark /tmp/mark"
    watch = Recorder()

    for _ in range(3):
        until(lambda: parking.executor.parked == SLOTS, "one for each slot")
        look = f"ls {places}; cat /proc/[0-9]*/comm; touch {places}; sleep 1000 &"
        assert parking.run(SAY, command=look, watch=watch).conclusion is Conclusion.SUCCESS

    assert starts(parking) == {"parked": 3, "cold": 0}
    assert watch.text("stderr").count("No such file") == 9, watch.text()
    assert "sh" in watch.text("stdout").splitlines()
    assert "sleep" not in watch.text("stdout")


def test_other_limits(parking: Bench) -> None:
    """A job with limits of its own gets a sandbox with these, and leaves the one that waits to others."""
    before = waiting(parking)

    result = parking.run(SAY, command="true", limits={"memory_bytes": 300 << 20})

    assert result.conclusion is Conclusion.SUCCESS
    assert result.detail["usage"]["memoryLimitBytes"] == 300 << 20
    assert starts(parking) == {"parked": 0, "cold": 1}
    assert waiting(parking) == before


def test_one_that_died(parking: Bench) -> None:
    """Where somebody ended what waited, a job gets one that is made for it."""
    for name in waiting(parking):
        parking.client.api.kill(name)

    assert parking.run(SAY, command="true").conclusion is Conclusion.SUCCESS
    assert starts(parking) == {"parked": 0, "cold": 1}


def test_one_that_could_not_be_made(
    images: Images, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine failed as one was made, the next look makes it."""
    executor = Executor(ENGINE_URL, images, service=f"test-{secrets.token_hex(4)}", wish=Wish("", "auto", 1, ("node",)))
    tried = threading.Event()

    def fail(*_: object) -> None:
        tried.set()
        raise EngineFault(Reason.RUNTIME_UNAVAILABLE, "as planned")

    with monkeypatch.context() as away:
        away.setattr(Parking, "_made", fail)
        executor.park(LIMITS)
        assert tried.wait(5)
    assert executor.parked == 0

    executor.park(LIMITS)
    until(lambda: executor.parked == 1, "one that waits")
    executor.close()
    assert Bench(executor, client).left_over() == []


def test_a_limit_ends_it(parking: Bench) -> None:
    """A command that goes on beyond its limit is dead when the result is there."""
    result = parking.run(SAY, command="sleep 1000", limits={"command_s": 0.5})

    assert result.reason is Reason.TIMEOUT
    assert [name for name in parking.objects() if parking.ran[-1] in name] == []


@pytest.fixture
def keeping(images: Images, client: docker.DockerClient) -> Iterator[Bench]:
    """Runs jobs of which one sandbox is kept; afterwards it is removed."""
    service = f"test-{secrets.token_hex(4)}"
    executor = Executor(ENGINE_URL, images, service=service, wish=Wish("", "auto", SLOTS, kept=1, kept_s=60))
    made = Bench(executor, client)
    yield made
    for name in made.objects():
        if name.startswith(KEPT):
            client.api.kill(name)
    until(lambda: bool(executor.sweep(lambda *_: False)) or not made.objects(), "what was kept is swept once it ended")
    assert made.left_over() == []
    executor.close()


def test_a_failed_jobs_sandbox_is_kept(keeping: Bench) -> None:
    """A job that asks for it, and fails, leaves its workspace to be looked into; of too many the oldest goes."""
    failing, fine = "echo found it > clue.txt; exit 1", "true"

    names = [
        keeping.run(SAY, command=command, keep_sandbox=True).detail["sandbox"].get("kept", {}).get("container")
        for command in (failing, fine, failing)
    ]
    unasked = keeping.run(SAY, command=failing)

    assert names[1] is None
    assert "kept" not in unasked.detail["sandbox"]
    # The last jobs' own containers may be removed at the same time.
    assert names[2] not in keeping.executor.sweep(lambda *_: False)
    assert [name for name in keeping.objects() if name.startswith(KEPT)] == [names[2]]
    looked = keeping.client.containers.get(names[2]).exec_run("cat /work/project/clue.txt")
    assert looked.output == b"found it\n"


_WORKER = """
import sys, time
from pathlib import Path
from executor import Executor, Wish
from executor.images import Images
from tests.engine_cases import ENGINE_URL, LIMITS
executor = Executor(ENGINE_URL, Images(Path(sys.argv[1])), service=sys.argv[2], wish=Wish("", "auto", 1, ("node",)))
executor.park(LIMITS)
while executor.parked < 1: time.sleep(0.02)
print("waits", flush=True)
time.sleep(1000)
"""


def test_a_worker_that_is_killed(images: Images, client: docker.DockerClient, tmp_path: Path) -> None:
    """What waits ends by itself when its worker is killed; a sweep of any worker removes it then, and not before."""
    service = f"test-{secrets.token_hex(4)}"
    other = Bench(Executor(ENGINE_URL, images, service=service), client)
    with subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(tmp_path), service], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == "waits\n"
        assert other.executor.sweep(lambda *_: False) == []
        made = other.objects()
        worker.kill()

    def swept() -> bool:
        removed.extend(other.executor.sweep(lambda *_: False))
        return not other.objects()

    removed: list[str] = []
    until(swept, "all removed")
    assert sorted(removed) == sorted(made)
    other.executor.close()
