"""The receiver's ledger: keeps every webhook as it came, and can be told to refuse or to break off."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random


class Mood(Enum):
    """How a request is answered."""

    ACCEPT = "200"
    REFUSE = "500"
    ACCEPT_AND_BREAK = "taken, but the sender gets no answer"


@dataclass(frozen=True, slots=True)
class Post:
    """One request as it came, and what became of it."""

    path: str
    headers: dict[str, str]
    body: bytes
    mood: Mood

    @property
    def accepted(self) -> bool:
        return self.mood is not Mood.REFUSE

    @property
    def webhook_id(self) -> str:
        return self.headers.get("webhook-id", "")

    @property
    def event(self) -> str:
        return "result" if self.path.endswith("worker-result") else "progress"

    @property
    def job_id(self) -> str:
        return str(json.loads(self.body)["jobId"])


def willing(_: str) -> Mood:
    """Accept everything."""
    return Mood.ACCEPT


def moody(random: Random) -> Callable[[str], Mood]:
    """Of the deliveries, refuse 15 % the first time and break off after 5 %; the second time accept."""
    seen: set[str] = set()

    def choose(webhook_id: str) -> Mood:
        if webhook_id in seen:
            return Mood.ACCEPT
        seen.add(webhook_id)
        chance = random.random()
        return Mood.REFUSE if chance < 0.15 else Mood.ACCEPT_AND_BREAK if chance < 0.20 else Mood.ACCEPT

    return choose


@dataclass
class Sink:
    """A receiver on a free port. `choose` maps a webhook-id to how it is answered; it is asked one at a time."""

    choose: Callable[[str], Mood] = willing
    posts: list[Post] = field(default_factory=list)
    port: int = 0

    def results(self, job_id: str = "") -> list[Post]:
        """The accepted results, of all jobs or of one."""
        posts = [post for post in list(self.posts) if post.accepted and post.event == "result"]
        return [post for post in posts if job_id in {"", post.job_id}]

    @contextlib.contextmanager
    def serve(self) -> Iterator[Sink]:
        """Receive while entered."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)) as server:
            server.daemon_threads = True
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sink")
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def _handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            with lock:
                mood = sink.choose(headers.get("webhook-id", ""))
                sink.posts.append(Post(self.path, headers, body, mood))
            if mood is Mood.ACCEPT_AND_BREAK:
                self.close_connection = True
                return
            with contextlib.suppress(ConnectionError):  # the sender was killed meanwhile
                self.send_response(500 if mood is Mood.REFUSE else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
