"""Submits a folder to a running service as a job, follows its log, and prints the result as JSON.

python -m examples.submit analyze examples/react-app [--url http://127.0.0.1:3001] [--data '{"env": {"VITE_X": "1"}}']
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import requests

HTTP_S = 10.0
POLL_S = 0.5
LEFT_OUT = {"node_modules", "dist", ".git", "__pycache__"}


def main() -> int:
    """0 if the job succeeded, 1 if it did not, 2 if it was not taken."""
    options = _options()
    session = requests.Session()
    if options.key:
        session.headers["Authorization"] = f"Bearer {options.key}"
    data = {"projectFiles": project(options.folder), **options.data}
    answer = session.post(f"{options.url}/api/jobs", json={"type": options.type, "data": data}, timeout=HTTP_S)
    if not answer.ok:
        print(json.dumps(answer.json(), indent=2), file=sys.stderr)
        return 2
    record = followed(session, f"{options.url}/api/jobs/{answer.json()['jobId']}")
    shown = {name: record[name] for name in ("status", "conclusion", "reason", "message", "artifacts", "result")}
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 0 if record["conclusion"] == "success" else 1


def project(folder: Path) -> dict[str, str]:
    """The text files of a folder, without what is installed or built."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths if not LEFT_OUT & set(path.parts)}


def followed(session: requests.Session, job: str) -> dict[str, Any]:
    """The record of a job once it has ended; its log goes to stderr meanwhile."""
    offset = 0
    while True:
        record: dict[str, Any] = session.get(job, timeout=HTTP_S).json()
        # After the record: once that says that the job has ended, the log is whole.
        log = session.get(f"{job}/logs", params={"offset": offset}, timeout=HTTP_S)
        offset = int(log.headers["X-Next-Offset"])
        print(log.text, end="", file=sys.stderr)
        if record["status"] in {"completed", "failed"}:
            return record
        time.sleep(POLL_S)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="examples.submit")
    parser.add_argument("type", help="build, test, lint or analyze")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:3001")
    parser.add_argument("--key", default="", help="an API key, where the service wants one")
    parser.add_argument("--data", type=json.loads, default={}, help="more fields of data, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
