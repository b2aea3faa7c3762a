"""HTTP to the outside: one exchange under one deadline, to an address that was checked, whoever answers there."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from addresses import is_local_name, is_public

CONNECT_S = 5.0

#: `.deadline` is that of the exchange which this thread is at.
_exchange = threading.local()


class Deadline:
    """While entered, ends every wait of this thread's exchange once the time is over, by shutting its sockets down.

    A timeout of requests bounds each wait for a byte, so a receiver that sends one byte a second would hold an exchange
    for hours, in its headers as well as in its body or in the TLS handshake.
    """

    def __init__(self, seconds: float, private: bool) -> None:
        """`private`: names may lead to private addresses; what is_local_name() may at any rate."""
        self.private = private
        self._ends = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []
        self.passed = False

    def __enter__(self) -> Deadline:
        _exchange.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for handle in self._handles:
                handle.close()

    def left_s(self) -> float:
        """Seconds until the end, never 0, which would mean something else to a socket."""
        return max(0.001, self._ends - time.monotonic())

    def watch(self, sock: socket.socket) -> None:
        """Let the end cut `sock`, by a handle of its own: TLS takes the first one, a closing answer drops it early."""
        with self._lock:
            self._handles.append(socket.fromfd(sock.fileno(), sock.family, sock.type))
        if self.passed:
            self._cut()

    def check(self) -> None:
        """Raise TimeoutError if the time is over: headers that were cut off look complete to the HTTP library."""
        if self.passed:
            raise TimeoutError

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            for handle in self._handles:
                with suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)


class _Watched(HTTPConnection):
    """A connection that the current deadline can end at any point, to an address that was checked."""

    def _new_conn(self) -> socket.socket:
        deadline: Deadline = _exchange.deadline
        anywhere = deadline.private or is_local_name(self._dns_host)
        failure = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._dns_host, self.port, type=socket.SOCK_STREAM
        ):
            # The address that is judged is the one that is used: a name cannot lead elsewhere in between.
            if not (anywhere or is_public(str(address[0]))):
                failure = OSError(f"{self.host} leads to {address[0]}, which is private")
                continue
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(CONNECT_S, deadline.left_s()))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                deadline.watch(sock)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # kept from the exchange before
            _exchange.deadline.watch(self.sock)
        super().request(*args, **kwargs)


class _WatchedTls(_Watched, HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


class Adapter(HTTPAdapter):
    """requests' transport over watched connections, one to each host; for use while a Deadline is entered.

    An adapter rather than a session: it follows nothing, keeps no cookies and reads no environment.
    """

    def __init__(self, ca_bundle: str) -> None:
        """`ca_bundle` is a PEM file of authorities, "" for the system's and certifi's."""
        # The system's authorities, to which requests adds certifi's, or those of the bundle alone.
        self._context = ssl.create_default_context(cafile=ca_bundle or None)
        super().__init__(pool_connections=2, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Called by the base class."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def cause(error: BaseException) -> str:
    """The innermost reason of a wrapped network error, in at most 200 characters."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return f"{type(error).__name__}: {error}"[:200]
