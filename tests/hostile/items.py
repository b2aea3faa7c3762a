"""What an item of the battery is, and what is seen of it when it has run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import requests

from jobs import JobType, Reason

JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row: what a job does, and what is to come of it. Numbers are those of docs/security.md.

    `reason` is how the job ends (None: success). Each of `says` is a pattern that its log must hold, each of `unsaid`
    one that it must not. In files, @TRAP@ stands for a port that listens on all of the host's addresses, @HOSTS@ for
    these, @FOLDER@ for the host's folder with planted files. `refused` are the fields that a 400 names, if nothing is to be run at all. `cannot` says, instead, why there
    is nothing to run; `not_under` why not under another runtime. `quick` ones are part of the normal tests.
    """

    number: str
    what: str
    files: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    kind: JobType = JobType.BUILD
    data: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: Reason | None = None
    exit_code: int | None = None
    says: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    checks: tuple[Callable[[Seen], None], ...] = ()
    refused: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    cannot: str = ""
    not_under: str = ""
    quick: bool = False

    def body(self, places: Mapping[str, str]) -> JSON:
        """The POST that submits it."""
        text = json.dumps(dict(self.files))
        for name, place in places.items():
            text = text.replace(f"@{name}@", place)
        data = {"chatId": "hostile", "projectFiles": json.loads(text), **self.data}
        if self.command:
            data["testCommand" if self.kind is JobType.TEST else "command"] = self.command
        return {"type": self.kind, "limits": dict(self.limits), "data": data, **self.fields}


@dataclass(frozen=True)
class Seen:
    """All that the service tells about a job that has ended."""

    url: str
    record: JSON
    seconds: float
    again: Callable[[Item], Seen]

    def get(self, path: str = "") -> requests.Response:
        """GET below the job's address."""
        return requests.get(f"{self.url}/api/jobs/{self.record['jobId']}{path}", timeout=30)

    @cached_property
    def log(self) -> str:
        """The log as text."""
        return self.get("/logs").text

    @cached_property
    def entries(self) -> list[JSON]:
        """The log, entry by entry."""
        return [json.loads(line) for line in self.get("/logs?format=ndjson").text.splitlines()]

    @cached_property
    def artifacts(self) -> dict[str, bytes]:
        """Every file that was kept."""
        listed = self.get("/artifacts").json()["artifacts"]
        return {each["path"]: requests.get(self.url + each["href"], timeout=30).content for each in listed}

    @property
    def usage(self) -> JSON:
        return dict(self.record["result"]["usage"])

    @property
    def skipped(self) -> dict[str, str]:
        """What was not kept, and why."""
        return {entry["path"]: entry["reason"] for entry in self.record["result"]["skippedArtifacts"]}

    @property
    def phase_s(self) -> dict[str, float]:
        """How long each phase took (s)."""
        return {phase["name"]: phase["durationMs"] / 1000 for phase in self.record["result"]["phases"]}

    def everything(self) -> str:
        """All of it as one text, to look for secrets in."""
        kept = "".join(f"{path}\n{content.decode(errors='replace')}\n" for path, content in self.artifacts.items())
        return f"{json.dumps(self.record, ensure_ascii=False)}\n{self.log}\n{kept}"


def sh(number: str, what: str, script: str, **expected: Any) -> Item:
    """An item that runs a shell script."""
    return _program(number, what, ("attack.sh", "sh", script), expected)


def js(number: str, what: str, script: str, **expected: Any) -> Item:
    """An item that runs JavaScript."""
    return _program(number, what, ("attack.mjs", "node", script), expected)


def perl(number: str, what: str, script: str, **expected: Any) -> Item:
    """An item that runs Perl, which makes bare system calls and is in every base image."""
    return _program(number, what, ("attack.pl", "perl", f"use strict; $| = 1;\n{script}"), expected)


def _program(number: str, what: str, program: tuple[str, str, str], expected: dict[str, Any]) -> Item:
    name, interpreter, script = program
    files = {"package.json": "{}", name: script, **expected.pop("files", {})}
    return Item(number=number, what=what, files=files, command=f"{interpreter} {name}", **expected)
