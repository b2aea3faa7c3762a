"""How an answer that goes on for long leaves the thread that began it: the server lets go of the connection."""

from __future__ import annotations

import socket
from collections.abc import Callable

#: Takes over a connection, and a function to call once it is closed.
Take = Callable[[socket.socket, Callable[[], None]], None]

#: What the server calls when it begins to stop, from a signal handler: set a flag, no more.
AT_STOP: list[Callable[[], None]] = []


class HandedOver(BaseException):
    """Raised by an answer's body after its first block: `take` goes on from here.

    Not an Exception, so that nothing on the way to the server takes it for a failure.
    """

    def __init__(self, take: Take) -> None:
        """Keep it for the server."""
        self.take = take
        super().__init__("the connection is with another thread")
