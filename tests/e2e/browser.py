"""A real browser without a screen, for tests of what a person would see."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@functools.cache
def binary() -> str:
    """A Chromium, installed if there is none and this is root on Debian. Fails the test where none can be had."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        return str(shutil.which("chromium"))
    pytest.fail("These tests look at pages with Chromium. Install it: sudo apt-get install chromium")


def shown(url: str, profile: Path) -> str:
    """The document that `url` has become after its scripts ran for a while, as HTML."""
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ]
    command = [binary(), *options, "--virtual-time-budget=8000", "--dump-dom", url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
