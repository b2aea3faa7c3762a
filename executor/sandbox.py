"""The engine, and the life of one container: the only calls to the Docker Engine besides the images'."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from urllib3.exceptions import HTTPError

from errors import EngineFault, RunStopped
from executor.spec import LABEL, WORK
from jobs import Reason

log = logging.getLogger(__name__)

CALL_S = 10  # an engine that does not answer a call for this long counts as failed
POLL_S = 0.1  # how often deadlines and the stop signal are looked at while a container runs
EVENT_LATE_S = 0.1
#: A volume is made just before its first container, by calls that end within CALL_S; after so long, none comes.
STRAY_S = 30
RECEIVE_BYTES = 1 << 18
STREAMS = {1: "stdout", 2: "stderr"}
QUIET = ""
#: What docker-py lets through: its own errors, and those of the layers below it.
ENGINE_ERRORS = (DockerException, requests.RequestException, HTTPError, OSError)


class Overrun(Exception):
    """A container ran into a deadline; `limit` says which, in words."""

    def __init__(self, limit: str, seconds: float) -> None:
        """`seconds` is the limit's length."""
        super().__init__(limit)
        self.limit = limit
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock, and what limit of how many seconds it comes from."""

    at: float
    limit: str
    seconds: float

    @classmethod
    def after(cls, seconds: float, limit: str) -> Deadline:
        """The deadline that a limit starting now leads to."""
        return cls(time.monotonic() + seconds, limit, seconds)

    @property
    def unix_ms(self) -> int:
        """The same moment on the clock that programs see."""
        return round((time.time() + self.at - time.monotonic()) * 1000)


@dataclass(frozen=True, slots=True)
class Guard:
    """What may end a container before its own end. `watchers` are called as often; what they raise ends it too."""

    stopped: Callable[[], bool]
    deadlines: tuple[Deadline, ...]
    watchers: tuple[Callable[[], None], ...] = ()

    def check(self) -> None:
        """Raise RunStopped if the run is to stop, Overrun if a deadline is over, or what a watcher has to say."""
        if self.stopped():
            raise RunStopped("stopped while a container ran")
        for deadline in self.deadlines:
            if time.monotonic() >= deadline.at:
                raise Overrun(deadline.limit, deadline.seconds)
        for watcher in self.watchers:
            watcher()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended, as the engine says: nothing in it comes from what the job printed."""

    code: int
    oom_killed: bool


class Engine:
    """The Docker Engine at one address; connects at first use. One object serves all threads."""

    def __init__(self, url: str | None) -> None:
        """`url` None is the engine of this machine."""
        self._url = url
        self._lock = threading.Lock()
        self._client: docker.DockerClient | None = None
        #: Names of containers that the engine could not remove when it was last asked.
        self.stuck: set[str] = set()

    @property
    def client(self) -> docker.DockerClient:
        """The client; every call of it ends within ten seconds. Raises EngineFault if there is no engine."""
        with self._lock:
            if self._client is None:
                with translated("connect"):
                    url = self._url or "unix:///var/run/docker.sock"
                    self._client = docker.DockerClient(base_url=url, version="auto", timeout=CALL_S, max_pool_size=32)
            return self._client

    @property
    def api(self) -> Any:
        """The plain calls. docker-py's types leave half of them out."""
        return self.client.api

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def remove(
        self, doomed: Callable[[dict[str, Any]], bool], *names: str, service: str = "", workspaces: bool = True
    ) -> list[str]:
        """Kill and remove the containers that are `doomed`, then the workspaces that they had, unless these stay.

        Only what carries our label is looked at, of this service if one is named, with one of `names` in its own.
        `doomed` gets what the engine lists of a container. Answers the names of what is gone; what cannot be removed
        now is logged and left to the next sweep.
        """
        with translated("list containers"):
            found = self.api.containers(all=True, filters={"label": _labels(service), "name": list(names)})
        lost = [container for container in found if doomed(container)]
        removed = [self._remove_container(container) for container in lost]
        mounts = [mount for each in lost for mount in each.get("Mounts", ())]
        volumes = dict.fromkeys(mount["Name"] for mount in mounts if workspaces and _is_workspace(mount))
        removed += [self._remove_volume(name) for name in volumes]
        return [name for name in removed if name]

    def remove_strays(self, service: str) -> list[str]:
        """Remove the workspaces that have had no container for long; answer their names. Raises EngineFault."""
        with translated("list volumes"):
            found = self.api.volumes(filters={"label": _labels(service), "dangling": ["true"]})["Volumes"] or []
        since = time.time() - STRAY_S
        removed = [self._remove_volume(each["Name"]) for each in found if _unix_s(each["CreatedAt"]) < since]
        return [name for name in removed if name]

    def unstick(self, prefix: str) -> bool:
        """Try again to remove the containers that could not be; True if none of those named `prefix`-… is left."""
        stuck = [name for name in tuple(self.stuck) if name.rpartition("-")[0] == prefix]
        for name in stuck:
            self._removed(name, lambda name=name: self.api.remove_container(name, force=True, v=True))  # type: ignore[misc]
        return self.stuck.isdisjoint(stuck)

    def _remove_container(self, found: dict[str, Any]) -> str | None:
        name = found["Names"][0].lstrip("/")
        return self._removed(name, lambda: self.api.remove_container(found["Id"], force=True, v=True))

    def _remove_volume(self, name: str) -> str | None:
        return self._removed(name, lambda: self.api.remove_volume(name))

    def _removed(self, name: str, remove: Callable[[], None]) -> str | None:
        try:
            remove()
        except NotFound:
            self.stuck.discard(name)
            return None
        except ENGINE_ERRORS as error:
            self.stuck.add(name)
            log.warning("not removed", extra={"object": name, "error": str(error)})
            return None
        self.stuck.discard(name)
        return name


class Sandbox:
    """One container, from creation to its end; a context manager that leaves nothing running.

    It may be entered and started long before it is used: both do nothing the second time.
    """

    def __init__(self, engine: Engine, settings: dict[str, Any], name: str) -> None:
        """`settings` is the body of the create call (see spec.py)."""
        self._engine = engine
        self._settings = settings
        self._name = name
        self.id = ""
        #: Whether the engine has said that it ended.
        self.has_ended = False
        self._started = False
        self._pid = 0
        self._attached: Any = None
        self._frames = Frames()

    def __enter__(self) -> Sandbox:
        """Create and attach; nothing runs before start(). Raises EngineFault."""
        if self.id:
            return self
        with translated("create container", Reason.CONTAINER_START_FAILED):
            self.id = self._engine.api.create_container_from_config(self._settings, self._name)["Id"]
            # Attached first, so that not a byte of output is missed.
            wanted = {way: int(self._settings[f"Attach{way.title()}"]) for way in ("stdin", "stdout", "stderr")}
            self._attached = self._engine.api.attach_socket(self.id, params={**wanted, "stream": 1})
        return self

    def __exit__(self, *error: object) -> None:
        """Kill it if it runs; removing it is left to others."""
        self.close()
        if error[0] is not None and self.id:
            with contextlib.suppress(*ENGINE_ERRORS):
                self._engine.api.kill(self.id)

    def close(self) -> None:
        """Let go of it: its standard input ends, and nobody hears what it says."""
        if self._attached is not None:
            # docker-py hands out the bare socket and hides the response that owns the connection on it.
            getattr(self._attached, "_response", self._attached).close()

    def start(self, blocks: Iterable[bytes], guard: Guard) -> None:
        """Start it, if it has not been, and send `blocks` to its standard input.

        Raises:
            EngineFault: It cannot be started, or the connection breaks.
            RunStopped, Overrun: See Guard.
        """
        if not self._started:
            with translated("start container", Reason.CONTAINER_START_FAILED):
                self._engine.api.start(self.id)
            self._started = True
        for block in blocks:
            self.send(block, guard)

    def send(self, block: bytes, guard: Guard) -> None:
        """Write to its standard input; nothing happens if it has ended. Raises as start()."""
        self._socket.settimeout(POLL_S)
        rest = memoryview(block)
        while rest:
            guard.check()
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                continue
            except OSError:
                return  # the container ended before it had read all; its exit code says why

    def output(self, guard: Guard) -> Iterator[tuple[str, bytes]]:
        """(stream, bytes) until the container closes its output; (QUIET, b"") whenever nothing comes for a moment.

        Raises: as start().
        """
        while True:
            guard.check()
            received = self._receive(POLL_S)
            if received is None:
                yield QUIET, b""
            elif received:
                yield from self._frames.feed(received)
            else:
                return

    def waiting(self) -> Iterator[tuple[str, bytes]]:
        """What can be read without waiting, as output() gives it, of a container that is not to end yet.

        Raises:
            EngineFault: It has ended, or the connection broke.
        """
        while (received := self._receive(0)) is not None:
            if not received:
                raise EngineFault(Reason.RUNTIME_UNAVAILABLE, f"the container {self._name} ended early")
            yield from self._frames.feed(received)

    def pid(self) -> int:
        """Its first process, as the engine numbers it, 0 once it has ended. Raises EngineFault."""
        if not self._pid:
            with translated("inspect container"):
                self._pid = int(self._engine.api.inspect_container(self.id)["State"]["Pid"])
        return self._pid

    def is_open(self) -> bool:
        """False if it has ended, or the connection to it broke; only to be asked before it has said anything."""
        return self._receive(0) is None

    def rename(self, name: str) -> None:
        """Call it otherwise. Raises EngineFault."""
        with translated("rename container"):
            self._engine.api.rename(self.id, name)
        self._name = name

    def exit(self, guard: Guard) -> Exit:
        """Wait for the end. Raises as start(), and EngineFault if the engine ended the container of its own accord."""
        while True:
            with translated("inspect container"):
                state = self._engine.api.inspect_container(self.id)["State"]
            if state["Status"] in {"exited", "dead"}:
                self.has_ended = True
                ended = Exit(int(state["ExitCode"]), bool(state["OOMKilled"]))
                if ended.code and not ended.oom_killed and self._was_killed(state):
                    raise EngineFault(Reason.RUNTIME_UNAVAILABLE, "the Docker Engine ended the container")
                return ended
            guard.check()
            self._wait(POLL_S)

    def _wait(self, timeout_s: float) -> None:
        """Return once the engine says that it ended, or when it has not for so long."""
        with translated("wait for container"), contextlib.suppress(requests.Timeout, requests.ConnectionError):
            self._engine.api.wait(self.id, timeout=timeout_s)

    def _was_killed(self, state: dict[str, Any]) -> bool:
        """True if a signal came by way of the engine. One that is being stopped ends its containers, and answers still.

        The exit code cannot tell: npm makes one of its own out of a signal, and a job may choose 137 itself.
        """
        # On the engine's own clock; the engine writes the event down just after it has sent the signal.
        since, until = _unix_s(state["StartedAt"]), _unix_s(state["FinishedAt"]) + EVENT_LATE_S
        wanted = json.dumps({"container": [self.id], "event": ["kill"]})
        api = self._engine.api
        with translated("ask for events"):
            # Not api.events(): that one waits for ever, and takes an error for an empty answer.
            answer = api._get(
                api._url("/events"), params={"since": int(since), "until": f"{until:.9f}", "filters": wanted}
            )
            return bool(api._result(answer).strip())

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = getattr(self._attached, "_sock", self._attached)
        return found

    def _receive(self, timeout_s: float) -> bytes | None:
        """What came; b"" at the end, None if nothing comes in time."""
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError:
            return b""  # the connection broke; what the engine says about the container decides what that means


class Frames:
    """Takes apart the engine's framing of stdout and stderr (1 byte stream, 3 unused, 4 length, payload)."""

    HEADER = struct.Struct(">BxxxI")

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[tuple[str, bytes]]:
        """The payloads that are complete now; neighbours of one stream come joined."""
        self._buffer += received
        at, stream, parts = 0, 0, list[bytes]()
        while len(self._buffer) - at >= self.HEADER.size:
            number, length = self.HEADER.unpack_from(self._buffer, at)
            end = at + self.HEADER.size + length
            if end > len(self._buffer):
                break
            if number != stream and parts:
                yield STREAMS.get(stream, "stdout"), b"".join(parts)
                parts = []
            stream = number
            parts.append(bytes(self._buffer[at + self.HEADER.size : end]))
            at = end
        del self._buffer[:at]
        if parts:
            yield STREAMS.get(stream, "stdout"), b"".join(parts)


def _unix_s(moment: str) -> float:
    """Seconds of a moment as the engine writes it."""
    return datetime.fromisoformat(moment).timestamp()


@contextlib.contextmanager
def translated(what: str, reason: Reason = Reason.RUNTIME_UNAVAILABLE) -> Iterator[None]:
    """Turn whatever the engine's client raises into an EngineFault.

    `reason` is for what the engine refuses; if it does not answer at all, it is unavailable.
    """
    try:
        yield
    except ImageNotFound as error:
        raise EngineFault(Reason.IMAGE_PULL_FAILED, f"{what}: {error.explanation}") from error
    except APIError as error:
        raise EngineFault(reason, f"{what}: the Docker Engine refuses: {error.explanation or error}") from error
    except ENGINE_ERRORS as error:
        raise EngineFault(Reason.RUNTIME_UNAVAILABLE, f"{what}: the Docker Engine does not answer: {error}") from error


def _labels(service: str) -> list[str]:
    return [f"{LABEL}=1", *([f"{LABEL}.service={service}"] if service else [])]


def _is_workspace(mount: dict[str, Any]) -> bool:
    """True for the workspace of a container, also if the engine made one by itself because it was gone already."""
    return bool(mount.get("Type") == "volume" and mount.get("Destination") == WORK and mount.get("Name"))
