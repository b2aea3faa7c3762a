"""The one way out of an install: Squid in a container of ours, which lets through to the package registries alone.

An install has no network. Its keeper passes connections to the proxy's Unix socket; the proxy resolves names itself,
and allows a host only by name, only on its port, only at a public address, only with a TLS greeting that names it too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from executor import spec
from executor.images import NODE, PROXY, PYTHON, Images
from executor.sandbox import Engine, Guard, Sandbox, translated

SOCKET_DIR = "/run/egress"
SOCKET = f"{SOCKET_DIR}/proxy"
#: Where every keeper listens for its install.
PORT = 3128
#: The proxies' network, which stays at the engine. Its members cannot reach each other, nor what is on other networks.
NETWORK = "chef-workers"
PROXY_USER = "13:13"  # Debian's user `proxy`
REGISTRIES = "/etc/registries"
#: A proxy that reached nothing may itself be at fault (its network may be gone); one so young is not.
RENEW_S = 30.0
PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")

#: Addresses that are not the public Internet's; a name that leads to one of them is not let through.
INSIDE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/96", "::ffff:0:0/96", "64:ff9b::/32", "100::/64", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A host that may be reached, as scheme (https or http), name and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """From a URL, `host` or `host:port`. Raises ValueError: it is none of these."""
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = (parts.hostname or "").rstrip(".")
        # A TLS greeting names no address, so one could not be checked.
        nameless = parts.scheme == "https" and _is_address(host)
        if parts.scheme not in PORTS or not _HOST.fullmatch(host) or nameless:
            raise ValueError(f"{text!r} is not a host, host:port or http(s) address")
        return cls(parts.scheme, host, parts.port or PORTS[parts.scheme])

    def __str__(self) -> str:
        """As a client asks a proxy for it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What installs may reach and move.

    `allow` comes beside the registries. `private` are networks inside INSIDE that an allowed name may lead to, such as
    the one with a registry of one's own. The caps are per install: connections at a time, and bytes in all.
    """

    allow: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    connections: int = 96
    sent_bytes: int = 16 << 20
    received_bytes: int = 2 << 30

    def check(self) -> None:
        """Raise ValueError if an entry is no host or network."""
        for entry in self.allow:
            Origin.parse(entry)
        for network in self.private:
            ipaddress.ip_network(network)

    def gate(self) -> dict[str, int | str]:
        """What a keeper is told."""
        caps = {"connections": self.connections, "sentBytes": self.sent_bytes, "receivedBytes": self.received_bytes}
        return {"socket": SOCKET, "port": PORT, **caps}


@dataclass(frozen=True, slots=True)
class Door:
    """What one install may do: the rules, the container of the proxy, and the places that it lets through to."""

    rules: Rules
    proxy: str
    allowed: frozenset[str]


def environment() -> dict[str, str]:
    """What sends every package manager to the keeper; there is no other way out, so a project gains nothing by more."""
    address = f"http://127.0.0.1:{PORT}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "npm_config_proxy", "npm_config_https_proxy")
    return dict.fromkeys((*names, "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"), address)


def squid_config(origins: Iterable[Origin], private: Iterable[str]) -> str:
    """Squid's configuration. A denial is answered 407: only then does Squid deny a CONNECT without TLS of its own."""
    lines = [_BASE, f"acl inside dst {' '.join(INSIDE)}"]
    lines += [f"acl private dst {' '.join(networks)}"] if (networks := tuple(private)) else []
    unless_private = " !private" if networks else ""
    known = sorted(set(origins))
    lines += ["acl known dstdomain -n " + " ".join(sorted({origin.host for origin in known})) if known else _NOTHING]
    lines += [
        f"deny_info 407:ERR_ACCESS_DENIED {name}" for name in ("all", "known", "private" if networks else "inside")
    ]
    # First by name, so that no other name is ever resolved: a look-up is a way out as well.
    lines += ["http_access deny !known", f"http_access deny inside{unless_private}"]
    for at, origin in enumerate(known):
        lines += [f"acl host{at} dstdomain -n {origin.host}", f"acl port{at} port {origin.port}"]
        if origin.scheme == "http":
            lines += [f"http_access allow !CONNECT host{at} port{at}"]
        else:
            lines += [f"http_access allow CONNECT host{at} port{at}"]
            lines += [f"acl greeting{at} ssl::server_name --client-requested {origin.host}"]
            lines += [f"ssl_bump splice step2 host{at} greeting{at}"]
    return "\n".join([*lines, "http_access deny all", "ssl_bump terminate step2", ""])


_NOTHING = "acl known dstdomain -n .invalid"
_BASE = f"""
http_port 127.0.0.1:{PORT} ssl-bump tls-cert=/etc/squid/unused.pem generate-host-certificates=off
visible_hostname egress
pid_filename none
cache deny all
cache_mem 0
memory_pools off
pinger_enable off
netdb_filename none
coredump_dir none
shutdown_lifetime 0 seconds
connect_timeout 10 seconds
negative_dns_ttl 2 seconds
via off
forwarded_for delete
access_log stdio:/dev/stdout
cache_log /dev/stderr
cache_store_log none
logfile_rotate 0
max_filedescriptors 4096
sslproxy_session_cache_size 0
request_body_max_size 64 KB
acl step1 at_step SslBump1
acl step2 at_step SslBump2
ssl_bump peek step1
""".strip()

#: Squid, then the socket in front of it; both end with standard input, so the proxy lives as long as its worker.
_START = f"""
printf '%s' "$0" >/tmp/squid.conf
/usr/sbin/squid -N -f /tmp/squid.conf &
until /usr/bin/socat -u OPEN:/dev/null TCP:127.0.0.1:{PORT} 2>/dev/null; do sleep 0.05; done
/usr/bin/socat UNIX-LISTEN:{SOCKET},fork,mode=666,backlog=256 TCP:127.0.0.1:{PORT} &
cat >/dev/null
"""


class Egress:
    """The proxy of one worker process: started when the first install needs it, gone when the process is."""

    def __init__(self, engine: Engine, images: Images, rules: Rules, service: str, house: spec.House) -> None:
        """`rules` are checked."""
        self.rules = rules
        self._engine = engine
        self._images = images
        self._service = service
        self._house = house
        self._extra = [Origin.parse(entry) for entry in rules.allow]
        self._origins: tuple[Origin, ...] = ()
        self._box: Sandbox | None = None
        self._started_at = 0.0
        self._lock = threading.Lock()

    def origins(self, guard: Guard) -> tuple[Origin, ...]:
        """What may be reached: where the package managers in the images go, as they told when built, and more.

        Raises: EngineFault, and what `guard` raises.
        """
        with self._lock:
            if not self._origins:
                told = [Origin.parse(line) for name in (NODE, PYTHON) for line in self._read_registries(name, guard)]
                self._origins = tuple(dict.fromkeys([*told, *self._extra]))
            return self._origins

    def door(self, guard: Guard) -> Door:
        """A proxy that runs when this returns. Raises as origins()."""
        origins = self.origins(guard)
        with self._lock:
            if self._box is None or not self._running(self._box.id):
                self._stop()
                self._box, self._started_at = self._started(origins, guard), time.monotonic()
            return Door(self.rules, self._box.id, frozenset(map(str, origins)))

    def renew(self, door: Door) -> None:
        """Nothing came through this door: the next one gets a new proxy, unless this one has just been started."""
        with self._lock:
            if self._box and self._box.id == door.proxy and time.monotonic() - self._started_at > RENEW_S:
                self._stop()

    def close(self) -> None:
        """End the proxy."""
        with self._lock:
            self._stop()

    def _started(self, origins: Iterable[Origin], guard: Guard) -> Sandbox:
        image = self._images.ensure(self._engine.client, PROXY)
        command = ("/bin/sh", "-c", _START, squid_config(origins, self.rules.private))
        self._require_network()
        settings = self._settings(spec.Step(image, command, network=NETWORK, workspace=False, stdin=True, trusted=True))
        settings |= {"User": PROXY_USER, "Volumes": {SOCKET_DIR: {}}, "AttachStdout": False, "AttachStderr": False}
        settings["HostConfig"]["LogConfig"] = {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "1"}}
        with contextlib.ExitStack() as undo:
            box = undo.enter_context(self._sandbox(settings))
            box.start([], guard)
            undo.pop_all()
        return box

    def _require_network(self) -> None:
        options = {"com.docker.network.bridge.enable_icc": "false"}
        with translated("make the proxies' network"):
            if NETWORK not in {found["Name"] for found in self._engine.api.networks(names=[NETWORK])}:
                self._engine.api.create_network(NETWORK, "bridge", options, labels={spec.LABEL: "1"})

    def _read_registries(self, name: str, guard: Guard) -> list[str]:
        image = self._images.ensure(self._engine.client, name)
        step = spec.Step(image, ("/bin/cat", REGISTRIES), workspace=False, trusted=True)
        with self._sandbox(self._settings(step)) as box:
            box.start([], guard)
            return b"".join(data for stream, data in box.output(guard) if stream == "stdout").decode().split()

    def _settings(self, step: spec.Step) -> dict[str, Any]:
        """A sandbox of ours that belongs to no job, and goes by itself when its program or its worker ends."""
        settings = spec.container(step, spec.Tenancy(self._service, 0, ""), spec.TRUSTED, self._house)
        settings["Labels"] = {f"{spec.LABEL}-egress": "1", f"{spec.LABEL}.service": self._service}
        settings["HostConfig"]["AutoRemove"] = True
        return settings

    def _sandbox(self, settings: dict[str, Any]) -> Sandbox:
        return Sandbox(self._engine, settings, f"cw-egress-{secrets.token_hex(6)}")

    def _running(self, container_id: str) -> bool:
        with translated("look for the proxy"):
            return bool(self._engine.api.containers(filters={"id": container_id, "status": "running"}))

    def _stop(self) -> None:
        if self._box is not None:
            self._box.close()
            self._box = None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
