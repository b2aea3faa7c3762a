"""What happens at SIGHUP: new settings and new code are taken up if they can be loaded, and left alone if not."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: What a new process of the API does before it serves. Where this fails, gunicorn would end the ones that serve.
REHEARSAL = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")
from gunicorn.util import import_app
import_app(sys.argv[1])
"""
REHEARSAL_S = 20.0
SHOWN_BYTES = 2_000


def prepare(arbiter: Any) -> None:
    """Let gunicorn's first process rehearse each reload; called once, when it is ready."""
    arbiter.reload = functools.partial(reload, arbiter, arbiter.reload)


def reload(arbiter: Any, begin: Callable[[], None]) -> None:
    """Begin a reload, unless a process that has just started cannot load what there is now."""
    if why := refusal(arbiter.app.app_uri):
        arbiter.log.error("Not reloaded, the service goes on as it was: %s", why)
        return
    forget_own_modules()
    begin()


def refusal(app: str) -> str:
    """Why the application cannot be loaded, in its own words; "" if it can."""
    command = [sys.executable, "-c", REHEARSAL, app]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=REHEARSAL_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it is not loaded after {REHEARSAL_S:g} s"
    said = done.stderr[-SHOWN_BYTES:].decode(errors="replace").strip()
    return f"{said} (code {done.returncode})" if done.returncode else ""


def forget_own_modules() -> None:
    """Let new processes, which are forks of this one, import our modules anew."""
    own = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    for name in list(sys.modules):
        if name.partition(".")[0] in own:
            del sys.modules[name]
