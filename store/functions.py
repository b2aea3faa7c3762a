"""Named functions: their versions, which one is called, and what they may occupy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import compact
from errors import FunctionNotFound, FunctionNotReady, FunctionQuota
from jobs import Package, Quota, Request
from neighbours import known
from store.connection import Connection, translated


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a function. It can be called once it has a package, which its job makes.

    `request` is the job's, with the code; its call is what is called. A strange one asks for what only a newer release
    knows.
    """

    number: int
    created_ms: int
    job_id: str
    request: Request
    package: Package | None
    is_strange: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A named function. `current` is the number of the version that is called, 0 as long as there is none."""

    name: str
    current: int
    created_ms: int
    updated_ms: int
    versions: tuple[Version, ...]


class Functions(Connection):
    """What changes functions is one script call each. Nobody needs the trees of the jobs that are answered."""

    def put_version(self, name: str, request: Request, job_id: str, quota: Quota) -> tuple[int, list[str]]:
        """Keep a new version that `job_id` is to make; its number, and the jobs of versions that made room.

        Raises:
            FunctionQuota: There are too many functions.
        """
        outcome, answer, *unused = self._run(
            "put_version", name, request.to_bytes(), job_id, quota.functions, quota.versions
        )
        if outcome == b"full":
            raise FunctionQuota(f"There are {answer} functions, which is the most (MAX_FUNCTIONS); remove one first.")
        return int(answer), [each.decode() for each in unused]

    def settle_version(self, name: str, number: int, package: Package, quota: Quota) -> str:
        """A version was made: it can be called, and is current unless a newer one was.

        Answers ok; gone, if it was removed meanwhile or another job makes it; or full, if there is no room for it.
        """
        kept = json.dumps(asdict(package))
        answer: bytes = self._run("settle_version", name, number, package.job_id, kept, package.size, quota.bytes)
        return answer.decode()

    def roll_back(self, name: str, number: int) -> None:
        """Make a version the one that is called. Raises FunctionNotFound, FunctionNotReady."""
        answer = self._run("roll_back", name, number)
        if answer == b"missing":
            raise FunctionNotFound(f"The function {name} has no version {number}.")
        if answer != b"ok":
            raise FunctionNotReady(f"Version {number} of {name} cannot be called.")

    def remove_function(self, name: str) -> list[str]:
        """Forget a function; the jobs of its versions. Raises FunctionNotFound."""
        count, *unused = self._run("remove_function", name, "")
        if not count:
            raise FunctionNotFound(f"There is no function {name}.")
        return [each.decode() for each in unused]

    def take_back_version(self, name: str, number: int) -> None:
        """Forget a version whose job was not taken in."""
        self._run("remove_function", name, number)

    def function(self, name: str) -> Function:
        """A function with its versions, the newest first. Raises FunctionNotFound."""
        with translated():
            numbers = [int(each) for each in self._redis.zrevrange(self._key("versions", name), 0, -1)]
        found = self._read(name, numbers)
        if found is None:
            raise FunctionNotFound(f"There is no function {name}.")
        return found

    def current_version(self, name: str) -> Version | None:
        """The version that is called; None while there is none. Raises FunctionNotFound."""
        with translated():
            current, last = self._redis.hmget(self._key("named", name), "current", "last")
        if last is None:
            raise FunctionNotFound(f"There is no function {name}.")
        found = self._read(name, [int(current)]) if current else None
        return found.versions[0] if found and found.versions else None

    def functions(self) -> list[Function]:
        """All functions by name, each with its current version alone."""
        with translated():
            names = sorted(name.decode() for name in self._redis.zrange(self._key("functions"), 0, -1))
            currents = [self._redis.hget(self._key("named", name), "current") for name in names]
        wanted = zip(names, currents, strict=True)
        read = [self._read(name, [int(current)] if current else []) for name, current in wanted]
        return [each for each in read if each]

    def _read(self, name: str, numbers: list[int]) -> Function | None:
        """What is kept of these versions; None if the function was removed."""
        with translated(), self._pipeline() as pipe:
            pipe.hgetall(self._key("named", name))
            for number in numbers:
                pipe.hgetall(self._key("version", f"{name}:{number}"))
            fields, *versions = pipe.execute()
        if not fields:
            return None
        read = [_version(number, each) for number, each in zip(numbers, versions, strict=True) if each]
        moments = (int(fields[b"created_ms"]), int(fields[b"updated_ms"]))
        return Function(name, int(fields.get(b"current", 0)), *moments, tuple(read))


def _version(number: int, fields: Mapping[bytes, bytes]) -> Version:
    kept: dict[str, Any] | None = json.loads(fields[b"package"]) if b"package" in fields else None
    stored = json.loads(compact.unpacked(fields[b"request"]))
    asked = stored.keys() | {f"call.{name}" for name in stored.get("call") or ()}
    return Version(
        number=number,
        created_ms=int(fields[b"created_ms"]),
        job_id=fields[b"job"].decode(),
        request=Request.known_of(fields[b"request"]),
        package=Package(**known(Package, kept)) if kept else None,
        is_strange=not asked <= Request.all_asks(),
    )
