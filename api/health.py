"""How it stands with the service: whether this process lives, whether it can serve, each part's state, the workers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottle import response

from api.answers import RETRY_SOON_S, json_answer, now
from api.guard import caller
from artifacts import Shelf
from config import VERSION
from errors import StoreUnavailable, StoreUnsuitable
from jobs import QUEUE_NAMES
from store import ALL, Store

log = logging.getLogger(__name__)

#: How long one check may take (s); those that depend on each other have their own calls, so none waits for another.
CHECK_S = 1.0
OLD_QUEUE_S = 300
#: What those hear who have no key.
WHY_IS_LOGGED = "Not all is well: ask with an API key to learn more."
LATE_WEBHOOKS_S = 600
#: Of the machine's memory, what should be left.
FREE_MEMORY_SHARE = 0.05
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to: a sentence if it is not well, and figures. A `fatal` one makes the service unhealthy."""

    problem: str = ""
    fatal: bool = False
    figures: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As health shows it."""
        state = "ok" if not self.problem else "failed" if self.fatal else "warning"
        return {"state": state, **({"message": self.problem} if self.problem else {}), **(self.figures or {})}


class Health:
    """One method for each route."""

    def __init__(self, store: Store, shelf: Shelf, min_free_disk: int, endpoints: Iterable[str]) -> None:
        """Keep the parts; nothing is opened. `min_free_disk` in bytes; `endpoints` name the receivers."""
        self._store = store
        self._endpoints = tuple(endpoints)
        self._shelf = shelf
        self._min_free_disk = min_free_disk
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="health")
        self._checks: dict[str, Callable[[], Finding]] = {
            "redis": self._redis,
            "workers": self._workers,
            "docker": self._docker,
            "sandbox": self._sandbox,
            "queues": self._queues,
            "webhooks": self._webhooks,
            "disk": self._disk,
            "memory": _memory,
        }

    def about(self) -> bytes:
        """What answers here."""
        return json_answer({"service": "Chef Workers", "version": VERSION, "status": "running", "timestamp": now()})

    def stats(self) -> bytes:
        """How many of the caller's jobs are in each state, per queue, and which queues are closed and why."""
        body = {"timestamp": now(), **self._store.closures().to_json()}
        if caller().sees_all:
            webhooks = {name: lane.to_json() for name, lane in self._store.lanes(self._endpoints).items()}
            body |= {"queues": self._store.stats(), "counters": self._store.counters(), "webhooks": webhooks}
        else:
            queues, counters = self._store.tenant_figures(caller().tenant)
            body |= {"queues": queues, "counters": counters}
        return json_answer(body)

    def live(self) -> bytes:
        """This process answers; nothing else is asked."""
        return json_answer({"status": "alive"})

    def ready(self) -> bytes:
        """Whether requests can be served: Redis answers and can keep what it is given; else 503 with why."""
        finding = self._result("redis", self._pool.submit(self._redis))
        if finding.problem:
            response.set_header("Retry-After", str(RETRY_SOON_S))
        body = {"status": "ready"} if not finding.problem else {"status": "not ready", "message": finding.problem}
        if finding.problem and not finding.fatal and not caller().scopes:
            body["message"] = WHY_IS_LOGGED
        return json_answer(body, 503 if finding.problem else 200)

    def health(self) -> bytes:
        """Every check, each with its own deadline: healthy, degraded (with why), or 503 unhealthy."""
        asked = {name: self._pool.submit(check) for name, check in self._checks.items()}
        findings = {name: self._result(name, future) for name, future in asked.items()}
        problems = [finding.problem for finding in findings.values() if finding.problem]
        fatal = any(finding.fatal for finding in findings.values())
        body: dict[str, Any] = {"status": "unhealthy" if fatal else "degraded" if problems else "healthy"}
        body["redis"] = "unreachable" if findings["redis"].fatal else "connected"
        if problems:
            body["error"] = body["message"] = problems[0]
        if fatal:
            log.warning("unhealthy: %s", problems[0])
            response.set_header("Retry-After", str(RETRY_SOON_S))
            findings = {"redis": findings["redis"]}  # what the others say is that they cannot know
        elif not caller().scopes:  # a stranger: what is not well, and nothing about it
            return self._to_stranger(body)
        else:
            body |= self._closures()
        body["checks"] = {name: finding.to_json() for name, finding in findings.items()}
        return json_answer({**body, "version": VERSION, "timestamp": now()}, 503 if fatal else 200)

    def _to_stranger(self, body: dict[str, Any]) -> bytes:
        told = {name: WHY_IS_LOGGED if name in ("error", "message") else text for name, text in body.items()}
        return json_answer({**told, "version": VERSION, "timestamp": now()})

    def workers(self) -> bytes:
        """The workers that give signs of life: slots, version, age of the heartbeat, current jobs, whether drained."""
        return json_answer({"timestamp": now(), "workers": [worker.to_json() for worker in self._store.workers()]})

    def drain(self, worker: str) -> bytes:
        """Let a worker take no more jobs; what it runs goes on."""
        return self._drained(worker, drained=True)

    def resume(self, worker: str) -> bytes:
        """Let a drained worker take jobs again."""
        return self._drained(worker, drained=False)

    def _drained(self, worker: str, *, drained: bool) -> bytes:
        self._store.drain_worker(worker, drained=drained)
        return json_answer({"name": worker, "drained": drained})

    def _result(self, name: str, asked: Future[Finding]) -> Finding:
        try:
            return asked.result(CHECK_S)
        except TooSlow:
            return Finding(f"{name}: no answer within {CHECK_S:g} s", fatal=name == "redis")
        except StoreUnavailable as error:
            log.debug("%s: %s", name, error)
            return Finding("Redis does not answer.", fatal=True)

    def _closures(self) -> dict[str, Any]:
        try:
            return self._store.closures().to_json()
        except StoreUnavailable:  # it went away since the checks; the next request says so
            return {}

    def _redis(self) -> Finding:
        try:
            self._store.check_suitable()
        except StoreUnsuitable as error:
            return Finding(str(error))
        return Finding()

    def _workers(self) -> Finding:
        workers = self._store.workers()
        slots = sum(worker.slots for worker in workers)
        busy = sum(len(worker.jobs) for worker in workers)
        problem = "" if workers else "No worker gives signs of life; jobs wait."
        return Finding(problem, figures={"alive": len(workers), "slots": slots, "busy": busy})

    def _docker(self) -> Finding:
        """What the workers say: this process does not speak to the engine, on purpose."""
        away = [worker.name for worker in self._store.workers() if worker.facts.get("engine") != "answers"]
        return Finding(f"The Docker Engine does not answer to {', '.join(away)}." if away else "")

    def _sandbox(self) -> Finding:
        """What workers say that their machines lack: `make doctor` has the fixes. Only what is unsafe is a problem."""
        told = sorted({(*entry[:2],) for worker in self._store.workers() for entry in worker.facts.get("sandbox", ())})
        unsafe = [sentence for state, sentence in told if state == "fail"]
        return Finding(" ".join(unsafe), figures={"notes": [sentence for _, sentence in told]} if told else None)

    def _queues(self) -> Finding:
        closed = self._store.closures().paused.keys()
        ages = {queue: age // 1000 for queue, age in self._store.figures().oldest_ms.items()}
        old = [queue for queue in QUEUE_NAMES if ages[queue] > OLD_QUEUE_S and not {queue, ALL} & closed]
        problem = f"Jobs wait for more than {OLD_QUEUE_S} s in {', '.join(old)}." if old else ""
        return Finding(problem, figures={"oldestWaitSeconds": ages})

    def _webhooks(self) -> Finding:
        lanes = self._store.lanes()
        disabled = [name for name, lane in lanes.items() if lane.disabled_ms]
        figures = {
            "pending": sum(lane.pending for lane in lanes.values()),
            "exhausted": sum(lane.exhausted for lane in lanes.values()),
            "lagMs": max((lane.lag_ms for lane in lanes.values()), default=0),
            "disabled": disabled,
        }
        late = [name for name, lane in lanes.items() if lane.lag_ms > LATE_WEBHOOKS_S * 1000]
        problem = ""
        if disabled:
            problem = f"Webhook endpoints that said they are gone: {', '.join(disabled)}."
        elif late:
            problem = f"Webhooks are more than {LATE_WEBHOOKS_S} s late: {', '.join(late)}."
        return Finding(problem, figures=figures)

    def _disk(self) -> Finding:
        free = self._shelf.free_bytes()
        return Finding(shortage(free, self._min_free_disk), figures={"freeBytes": free})


def shortage(free: int, least: int) -> str:
    """Why a disk with `free` bytes takes no new jobs, if it does not."""
    if free >= least:
        return ""
    room = f"The disk has {free >> 20:,} MB left, less than the {least >> 20:,} MB of MIN_FREE_DISK"
    return f"{room}; no new jobs until some were removed."


def _memory() -> Finding:
    figures = dict(_meminfo(MEMINFO.read_text())) if MEMINFO.exists() else {}
    total, free = figures.get("MemTotal", 0), figures.get("MemAvailable", 0)
    low = free < total * FREE_MEMORY_SHARE
    problem = f"The machine has {free >> 20:,} MB of memory left of {total >> 20:,} MB." if low else ""
    return Finding(problem, figures={"availableBytes": free})


def _meminfo(text: str) -> Iterator[tuple[str, int]]:
    for name, kilobytes in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE):
        yield name, int(kilobytes) << 10
