"""The demonstration: builds examples/react-app through the running service over HTTP and shows live what happens."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import requests

from errors import SetupError
from stack import ROOT, Stack

EXAMPLE = ROOT / "examples" / "react-app"
POLL_S = 0.2
WEBHOOK_S = 15.0
HTTP_S = 10.0


def build_example(service: Stack, out: TextIO = sys.stdout) -> int:
    """Submit the example, follow it to its end, show result, artifacts and webhook. 0 if it succeeded, else 1.

    Raises:
        SetupError: The service does not take the job, or a part of it ends.
    """
    screen = Screen(out)
    job_id = submit(service.url, EXAMPLE)
    screen.line(f"POST {service.url}/api/jobs -> {job_id} ({EXAMPLE.relative_to(ROOT)})")
    record = follow(service, job_id, screen)
    show_result(record, screen)
    delivered = show_webhook(service, job_id, screen)
    return 0 if record["conclusion"] == "success" and delivered else 1


class Screen:
    """Lines, and on a terminal a progress bar below them; elsewhere a plain line whenever the phase changes."""

    def __init__(self, out: TextIO) -> None:
        """`out` is asked once whether it is a terminal."""
        self._out = out
        self._terminal = out.isatty()
        self._bar = ""
        self._shown = ""

    def line(self, text: str = "") -> None:
        """Print one line above the bar."""
        erase = "\r\x1b[K" if self._bar else ""
        print(f"{erase}{text}", file=self._out)
        self._draw()

    def progress(self, percent: int, phase: str) -> None:
        """Show how far the job is."""
        if self._terminal:
            filled = percent * 30 // 100
            self._bar = f"{'█' * filled}{'░' * (30 - filled)} {percent:3d} %  {phase}"
            self._draw()
        elif phase != self._shown:
            self.line(f"{percent:3d} %  {phase}")
        self._shown = phase

    def end(self) -> None:
        """Take the bar away."""
        if self._bar:
            print("\r\x1b[K", end="", file=self._out, flush=True)
        self._bar = ""

    def _draw(self) -> None:
        if self._bar:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self._bar[:width]}", end="", file=self._out)
        self._out.flush()


def submit(url: str, project: Path) -> str:
    """POST a folder as a build job and return the job's id. Raises SetupError with the service's own words."""
    files = {str(path.relative_to(project)): path.read_text() for path in project_files(project)}
    body = {"type": "build", "priority": 10, "data": {"chatId": "demo", "projectFiles": files}}
    answer = requests.post(f"{url}/api/jobs", json=body, timeout=HTTP_S)
    if answer.status_code != 201:
        raise SetupError(f"the service did not take the job: {answer.status_code} {answer.json().get('message')}")
    return str(answer.json()["jobId"])


def project_files(project: Path) -> list[Path]:
    """The files of a project folder without what a build makes."""
    made = {"node_modules", "dist"}
    return sorted(path for path in project.rglob("*") if path.is_file() and not made & set(path.parts))


def follow(service: Stack, job_id: str, screen: Screen) -> dict[str, Any]:
    """Show progress and log lines as they come; return the record of the ended job."""
    offset = 0
    while True:
        service.check()
        record = requests.get(f"{service.url}/api/jobs/{job_id}", timeout=HTTP_S).json()
        # The log is read after the record: once the record says that the job has ended, the log is whole.
        offset = show_log(service.url, job_id, offset, screen)
        if record["status"] in {"completed", "failed"}:
            screen.end()
            return dict(record)
        screen.progress(record["progress"], record["phase"] or record["status"])
        time.sleep(POLL_S)


def show_log(url: str, job_id: str, offset: int, screen: Screen) -> int:
    """Print the lines from `offset` on; return the number of the next line."""
    answer = requests.get(f"{url}/api/jobs/{job_id}/logs?format=ndjson&offset={offset}", timeout=HTTP_S)
    for text in answer.text.splitlines():
        entry = json.loads(text)
        if "dropped" in entry:
            screen.line(f"      … {entry['dropped']['lines']} lines not kept …")
            continue
        mark = {"stderr": "!", "system": "·"}.get(entry["stream"], "│")
        screen.line(f"      {entry['phase']:<10} {mark} {entry['text']}")
    return int(answer.headers["X-Next-Offset"])


def show_result(record: dict[str, Any], screen: Screen) -> None:
    """Status, seconds per phase, artifacts with sizes."""
    seconds = f"{record['durationMs'] / 1000:.1f} s"
    screen.line(f"\n{record['status']} ({record['conclusion']}) in {seconds}, waited {record['waitMs']} ms")
    if record["message"]:
        screen.line(record["message"])
    for phase in (record["result"] or {}).get("phases", []):
        screen.line(f"  {phase['name']:<11} {phase['durationMs'] / 1000:6.2f} s")
    screen.line(f"artifacts: {len(record['artifacts'])}")
    for artifact in record["artifacts"]:
        screen.line(f"  {artifact['size']:>9,} B  {artifact['path']}  sha256 {artifact['sha256'][:12]}…")


def show_webhook(service: Stack, job_id: str, screen: Screen) -> bool:
    """Wait for the result webhook and show it; False if it does not come within 15 s."""
    deadline = time.monotonic() + WEBHOOK_S
    while time.monotonic() < deadline:
        for event in list(service.events):
            if event["body"]["jobId"] == job_id and "conclusion" in event["body"]:
                screen.line(f"webhook: POST {event['path']} received, signature verified, id {event['id']}")
                for name, value in event["body"].items():
                    screen.line(f"  {name:<13} {shortened(value)}")
                progress = sum(1 for e in service.events if e["body"]["jobId"] == job_id) - 1
                screen.line(f"  after {progress} progress webhooks")
                return True
        time.sleep(0.05)
    screen.line(f"webhook: none received within {WEBHOOK_S:.0f} s; the worker's log says why")
    return False


def shortened(value: object) -> str:
    """A value as one line of JSON that fits beside its name."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else f"{text[:89]}…"
