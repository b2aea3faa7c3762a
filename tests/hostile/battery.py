"""Runs one item beside a neighbour, and looks at everything that it may not have harmed."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import requests

from jobs import JobType
from tests.hostile.ground import Ground
from tests.hostile.items import Item, Seen

END_S = 240.0
HEALTH_EVERY_S = 0.05
#: On a machine with two processors that other work shares; alone it is a few milliseconds.
HEALTH_S = 1.5
#: Of the questions about health, how many may find a part slow.
FAILED_SHARE = 0.05
PAUSE_S = 5.0
GROWTH_MB = 160.0
NEIGHBOUR_MS = 1_200
#: Works in small steps for a while, with what jobs of one user would take from each other, and tells its longest pause.
NEIGHBOUR = """
import fs from "node:fs"
import os from "node:os"
import { spawnSync } from "node:child_process"
const end = Date.now() + Number(process.env.FOR_MS)
let last = Date.now(), longest = 0, seen = 0
fs.mkdirSync("dist")
const watcher = fs.watch("dist", () => seen++)
for (let step = 0; Date.now() < end; step++) {
    fs.writeFileSync("dist/work.txt", "whole ".repeat(1000) + step)
    if (!fs.readFileSync("dist/work.txt", "utf8").endsWith("whole " + step)) throw Error("somebody wrote here")
    if (step % 10 === 0 && spawnSync("true").status !== 0) throw Error("no process can be started")
    await new Promise((done) => setTimeout(done, 20))
    longest = Math.max(longest, Date.now() - last); last = Date.now()
}
for (const late = Date.now() + 2000; !seen && Date.now() < late;) await new Promise((done) => setTimeout(done, 20))
watcher.close()
fs.writeFileSync("dist/work.txt", seen ? "unharmed" : "no event was seen")
console.log("longest pause", longest)
"""


@dataclass
class Row:
    """What came of an item."""

    item: Item
    outcome: str = ""
    seconds: float = 0.0
    health_s: float = 0.0
    pause_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def canaries(self) -> str:
        """In words: all well, or what is not."""
        if self.faults:
            return "; ".join(self.faults)
        return f"unharmed (health {self.health_s * 1000:.0f} ms, neighbour {self.pause_s * 1000:.0f} ms at worst)"


def run(ground: Ground, item: Item) -> Row:
    """One item with all checks; `faults` of the row are empty if all is as it should be."""
    row = Row(item)
    if item.cannot or (ground.runtime and item.not_under):
        row.outcome = f"not run: {item.cannot or item.not_under}"
        return row
    try:
        (refuse if item.refused else attack)(ground, item, row)
    except AssertionError as error:
        row.faults.append(str(error))
    row.faults += harmed(ground)
    return row


def attack(ground: Ground, item: Item, row: Row) -> None:
    """Run the job while a neighbour works and the health is asked for."""
    neighbour = start_neighbour(ground)
    with Health(ground.service.url) as health:
        seen = ended(ground, submit(ground, item))
    row.health_s, row.seconds = health.worst_s, seen.seconds
    row.outcome = seen.record["reason"] or "success"
    row.faults += [*differences(item, seen), *leaks(ground, seen.everything() + ground.told())]
    pause_s = check_neighbour(ground, neighbour, row.faults)
    row.pause_s = pause_s
    if health.failures > health.asked * FAILED_SHARE:
        row.faults.append(f"{health.failures} of {health.asked} questions about health failed")
    for name, value, most in (("health", row.health_s, HEALTH_S), ("the neighbour's pause", pause_s, PAUSE_S)):
        if value > most:
            row.faults.append(f"{name} took {value:.2f} s")


def refuse(ground: Ground, item: Item, row: Row) -> None:
    """Submit what must not be taken; the answer names every wrong field, and comes soon."""
    began = time.monotonic()
    answer = ground.post(item.body(ground.places))
    row.seconds, row.outcome = time.monotonic() - began, f"HTTP {answer.status_code}"
    named = {mistake["pointer"] for mistake in answer.json().get("errors", [])}
    if answer.status_code not in (400, 413) or (answer.status_code == 400 and named != set(item.refused)):
        row.faults.append(f"answered {answer.status_code} about {sorted(named)}: {answer.text[:200]}")


def submit(ground: Ground, item: Item) -> str:
    answer = ground.post(item.body(ground.places))
    if answer.status_code != 201:
        raise AssertionError(f"{item.number} was answered {answer.status_code}: {answer.text[:500]}")
    return str(answer.json()["jobId"])


def ended(ground: Ground, job_id: str) -> Seen:
    """What there is to see once a job has ended."""
    began = time.monotonic()
    while (record := ground.record(job_id))["status"] not in {"completed", "failed"}:
        if time.monotonic() - began > END_S:
            raise AssertionError(f"no end within {END_S} s: {record}")
        time.sleep(0.05)
    again = lambda item: ended(ground, submit(ground, item))  # noqa: E731  (a check may run another job)
    return Seen(ground.service.url, record, record["durationMs"] / 1000, again)


def differences(item: Item, seen: Seen) -> Iterator[str]:
    """Where an end is not as expected."""
    record = seen.record
    if record["reason"] != (item.reason and str(item.reason)):
        yield f"ended as {record['reason']}, not {item.reason}: {(record['message'] or '')[:300]}"
    if item.exit_code is not None and record["result"]["exitCode"] != item.exit_code:
        yield f"exit code {record['result']['exitCode']}, not {item.exit_code}"
    if record["attempt"] != 1:
        yield f"was given {record['attempt']} attempts"
    yield from (f"does not say {each!r}" for each in item.says if not re.search(each, seen.log))
    yield from (f"says {found[0]!r}" for each in item.unsaid if (found := re.search(each, seen.log)))
    for check in item.checks:
        try:
            check(seen)
        except (AssertionError, LookupError, ValueError) as error:
            yield f"{check.__name__}: {error!r:.300}"


def start_neighbour(ground: Ground) -> str:
    """A job of another chat, under way when this returns."""
    files = {"package.json": '{"type": "module"}', "work.mjs": NEIGHBOUR, "n": str(time.time_ns())}
    env = {"FOR_MS": str(NEIGHBOUR_MS)}
    data = {"chatId": "neighbour", "projectFiles": files, "env": env, "command": "node work.mjs"}
    job_id = str(ground.post({"type": JobType.BUILD, "data": data}).json()["jobId"])
    deadline = time.monotonic() + 20
    while ground.record(job_id)["phase"] not in {"building", "collecting"} and time.monotonic() < deadline:
        time.sleep(0.02)
    return job_id


def check_neighbour(ground: Ground, job_id: str, faults: list[str]) -> float:
    """Its longest pause (s); what is wrong with it goes to `faults`."""
    seen = ended(ground, job_id)
    if seen.record["conclusion"] != "success":
        faults.append(f"the neighbour ended as {seen.record['reason']}: {seen.record['message']}")
        return 0.0
    if seen.artifacts != {"work.txt": b"unharmed"}:
        faults.append(f"the neighbour made {seen.artifacts}")
    found = re.search(r"longest pause (\d+)", seen.log)
    return int(found[1]) / 1000 if found else 0.0


def harmed(ground: Ground) -> Iterator[str]:
    """What is not as it was before: of the host, the engine, the service."""
    after = ground.host()
    yield from (f"{name} changed" for name in ground.before | after if ground.before.get(name) != after.get(name))
    if left := ground.left():
        yield f"left behind: {', '.join(left)}"
    if odd := ground.door.odd():
        yield f"the engine was asked for {', '.join(odd)}"
    if ground.trap.hits:
        yield f"{ground.trap.hits} connections reached the host"
        ground.trap.hits = 0
    if (grown := ground.grown_mb()) > GROWTH_MB:
        yield f"the service grew by {grown:.0f} MB"
    ground.service.check()


def leaks(ground: Ground, text: str) -> Iterator[str]:
    """Planted secrets in what the service says."""
    yield from (f"the secret in {name} got out" for name, secret in ground.secrets.items() if secret in text)


class Health:
    """Asks for the health all the time while entered; `worst_s` is what the longest answer took."""

    def __init__(self, url: str) -> None:
        self.worst_s = 0.0
        self.asked = 0
        self.failures = 0
        self._url = f"{url}/api/health"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._over.wait(HEALTH_EVERY_S):
                began = time.monotonic()
                self.asked += 1
                try:
                    self.failures += session.get(self._url, timeout=10).json()["status"] != "healthy"
                except (requests.RequestException, ValueError):
                    self.failures += 1
                self.worst_s = max(self.worst_s, time.monotonic() - began)


def shown(value: Any) -> str:
    """For a message about what was found."""
    return json.dumps(value, ensure_ascii=False, default=str)[:300]
