"""Calls a function with the code of a folder, and prints its log and its answer.

Usage: python examples/call.py FOLDER HANDLER [EVENT] [ADDRESS]
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FINAL = {"completed", "failed"}


def main(folder: str, handler: str, event: str = "null", address: str = "http://localhost:3001") -> int:
    """Submit, wait, print; 0 if the function returned a value."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and "node_modules" not in path.parts]
    files = {str(path.relative_to(folder)): path.read_text() for path in paths}
    runtime = "python" if any(path.suffix == ".py" for path in paths) else "node"
    data = {"runtime": runtime, "files": files, "handler": handler, "event": json.loads(event)}
    job = f"{address}/api/jobs/{ask(f'{address}/api/jobs', {'type': 'function', 'data': data})['jobId']}"
    while (record := ask(job))["status"] not in FINAL:
        time.sleep(0.2)
    with urllib.request.urlopen(f"{job}/logs") as answer:
        print(answer.read().decode(), end="")
    print(json.dumps(record["result"].get("function") or record["message"], indent=2, ensure_ascii=False))
    return 0 if record["status"] == "completed" else 1


def ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST with a body."""
    content = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"} if body else {})
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
