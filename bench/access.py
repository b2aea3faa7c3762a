"""What keys and limits add to a POST: the application in process, without a server around it."""

from __future__ import annotations

import functools
import io
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import config
from app import create_app
from artifacts import Shelf
from bench import measure, redis_server
from store import Rules, Store
from tests.api_cases import key_of

SUBMISSIONS = 300
BODY = json.dumps({"type": "build", "data": {"projectFiles": {"a.txt": "x" * 1000}}}).encode()
LIMITS = {"RATE_LIMIT_KEY": "1000000", "RATE_LIMIT_ADDRESS": "1000000"}


def run(rounds: int) -> str:
    """CPU time of this process for one submission of 1 KB."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, redis_server.private_server(Path(folder)) as server:
        server.sync("no")
        stores = [Store(server.url(number), rules=Rules(queue_bound=1_000_000)) for number in range(3)]
        open_to_all, keyed, limited = stores
        contenders = {
            "nobody needs a key": submitting(open_to_all, folder, {}, {}),
            "a key": submitting(keyed, folder, {"RATE_LIMIT_KEY": "0"}, key_of(keyed, "bench")),
            "a key and two limits": submitting(limited, folder, LIMITS, key_of(limited, "bench")),
        }
        for submit in contenders.values():
            submit()  # connects, and teaches Redis the script
        took = measure.in_turns(rounds, contenders)
        for store in stores:
            store.close()
    logging.disable(logging.NOTSET)
    floor = statistics.median(took["nobody needs a key"])
    rows = [(name, measure.spread(us), f"{statistics.median(us) / floor:.2f}") for name, us in took.items()]
    return measure.table("POST of 1 KB, in process | CPU µs | ×", rows)


def submitting(store: Store, folder: str, settings: dict[str, str], headers: dict[str, str]) -> Any:
    """Submits, and returns the CPU time of one submission (µs)."""
    values = config.load({"SAME_REQUEST_IS_SAME_JOB": "false", "DATA_DIR": folder, **settings})
    app = create_app(values, store, Shelf(Path(folder) / "artifacts"), store.submit)
    sent = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return functools.partial(cpu_us, app, sent)


def cpu_us(app: Any, headers: dict[str, str]) -> float:
    statuses: list[str] = []
    began = time.process_time()
    for _ in range(SUBMISSIONS):
        b"".join(app(environ(headers), lambda status, told, error=None: statuses.append(status)))
    took = time.process_time() - began
    assert {status[:3] for status in statuses} == {"201"}, statuses
    return took / SUBMISSIONS * 1e6


def environ(headers: dict[str, str]) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/api/jobs", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "HTTP_HOST": "localhost", "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(BODY)), "wsgi.input": io.BytesIO(BODY), "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http", **headers,
    }  # fmt: skip
