"""A small stand-in for a Convex site: takes webhooks, verifies their signatures, and counts each of them once.

WEBHOOK_SECRET=whsec_… python -m examples.receiver --port 3211 --events events.jsonl
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import config
import webhook
from errors import SignatureMismatch

MAX_BODY_BYTES = 1 << 20

#: What on_event gets: id (webhook-id), path, and body, parsed.
Event = dict[str, Any]


@contextlib.contextmanager
def serve(port: int, secrets: Sequence[str], on_event: Callable[[Event], object]) -> Iterator[int]:
    """Receive on 127.0.0.1 in threads of our own while entered; yields the port, a free one if `port` is 0.

    `on_event` is called once per webhook-id, one call at a time. When it raises, the sender is answered 500 and will
    send the same again.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), _handler(Inbox(secrets, on_event))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="receiver")
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Inbox:
    """Decides what becomes of a request; knows which ids it has seen."""

    def __init__(self, secrets: Sequence[str], on_event: Callable[[Event], object]) -> None:
        """See serve()."""
        self._secrets = secrets
        self._on_event = on_event
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer."""
        try:
            webhook.verify(self._secrets, headers, body, time.time())
            event = {"id": headers["webhook-id"], "path": path, "body": json.loads(body)}
        except SignatureMismatch as error:
            return 401, {"error": str(error)}
        except ValueError:
            return 400, {"error": "the body is not JSON"}
        with self._lock:
            duplicate = event["id"] in self._seen
            if not duplicate:
                self._on_event(event)
                # Only now: an event that could not be taken must be taken when it comes again.
                self._seen.add(event["id"])
        return 200, {"received": True, "duplicate": duplicate}


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes; the second must not wait 40 ms
        timeout = 30  # seconds for a request, and for the next one on the same connection

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                self.close_connection = True
                self.answer(413, {"error": "a body of at most 1 MB with its Content-Length is wanted"})
                return
            body = self.rfile.read(int(length))
            try:
                self.answer(*inbox.take(self.path, {name.lower(): text for name, text in self.headers.items()}, body))
            except Exception as error:  # noqa: BLE001  (whatever it was, the sender shall try again)
                self.answer(500, {"error": type(error).__name__})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Silent: what matters is printed by main()."""

    return Handler


def main() -> None:
    """Receive until Ctrl-C: print each event, and append it to a file as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=3211)
    parser.add_argument("--events", type=Path, default=Path("/dev/null"), help="file that events are appended to")
    chosen = parser.parse_args()
    secrets = config.load_or_exit().webhook_secrets
    if not secrets:
        sys.exit("WEBHOOK_SECRET must be set")

    def on_event(event: Event) -> None:
        line = json.dumps(event, ensure_ascii=False)
        print(line, flush=True)
        with chosen.events.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    with serve(chosen.port, secrets, on_event) as port, contextlib.suppress(KeyboardInterrupt):
        print(f"receiving on http://127.0.0.1:{port}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
