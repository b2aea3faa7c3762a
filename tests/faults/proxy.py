"""A relay between a client and a server that can fall silent, or break every connection, without either end's doing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Address = tuple[str, int] | str


class Proxy:
    """Relays bytes of TCP or Unix sockets. While silent, it takes connections and bytes, and passes nothing on."""

    def __init__(self, upstream: Address) -> None:
        self._upstream = upstream
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def fall_silent(self) -> None:
        """Pass nothing on; what was on its way is kept."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Break all connections, old ones now and new ones at once."""
        self._refusing = True
        self.cut()

    def heard(self, data: bytes) -> None:
        """Called with what a client says, before it is passed on; for those who listen."""

    def speak(self) -> None:
        """Break all connections that were silent, as a network does that comes back, and relay again."""
        self._refusing = False
        self.cut()
        self._flowing.set()

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def serve(self, path: Path | None = None) -> Iterator[Address]:
        """Relay while entered; the address to connect to: a port of loopback, or the Unix socket `path`."""
        listener = _listen(path)
        threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True).start()
        try:
            address: Address = listener.getsockname()
            yield address
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self._flowing.set()
            self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            threading.Thread(target=self._relay, args=(client,), name="proxy", daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(_family(self._upstream)) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                self._flowing.wait()
                server.connect(self._upstream)
                back = threading.Thread(target=self._pump, args=(server, client), name="proxy", daemon=True)
                back.start()
                self._pump(client, server, self.heard)
                back.join()
            except OSError:
                pass  # nobody listens there: the client sees its connection end
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _pump(
        self, source: socket.socket, target: socket.socket, hear: Callable[[bytes], None] = lambda data: None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                hear(data)
                self._flowing.wait()
                target.sendall(data)
        for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                end.shutdown(how)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_UNIX if isinstance(address, str) else socket.AF_INET


def _listen(path: Path | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener
