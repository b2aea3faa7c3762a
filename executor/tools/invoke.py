"""Calls a function: loads its file, calls the export with the event, and writes what came of it as a report.

What it reads is call.json beside it; see executor/functions.py. It runs alone in the sandbox.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

MAX_CHARS = 8_000
HERE = Path(__file__).resolve().parent
PACKAGES = ".packages"
FOREIGN = (str(HERE), "<frozen importlib")


class Caller:
    """One call, and the clock of its duration."""

    def __init__(self, call: dict[str, Any]) -> None:
        self.call = call
        self.began = time.perf_counter()

    def run(self) -> NoReturn:
        """Load, call, report."""
        try:
            handler = self.handler()
            if self.call["check"]:
                self.end('"value":null')
            told = os.environ  # noqa: TID251  (without the service, as when a job is run again by hand, it lacks these)
            context = {"jobId": told.get("CHEF_JOB_ID", ""), "deadlineMs": int(told.get("CHEF_DEADLINE_MS", "0"))}
            self.began = time.perf_counter()
            value = answer(handler, self.call["event"], context)
        except Exception as error:  # noqa: BLE001  (whatever the function raises is its answer)
            self.thrown(error)
        self.returned(value)

    def handler(self) -> Callable[..., Any]:
        """What is to be called."""
        file, export = self.call["file"], self.call["export"]
        found = getattr(load(file), export, None)
        if not callable(found):
            self.fail("handler", "HandlerNotFound", f"{file} has no function {export}")
        handler: Callable[..., Any] = found
        return handler

    def returned(self, value: object) -> NoReturn:
        """End with a value, if it is JSON and small enough."""
        try:
            text = as_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            self.fail("value", "ResultInvalid", f"the value cannot be written as JSON: {error}")
        size, most = len(text.encode()), self.call["maxBytes"]
        if size > most:
            self.fail("size", "ResultTooLarge", f"the value has {size} bytes as JSON, and at most {most} are taken")
        self.end(f'"value":{text}')

    def thrown(self, error: Exception) -> NoReturn:
        """End with an exception, its traceback without the frames of this file."""
        frames = error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename.startswith(FOREIGN):
            frames = frames.tb_next
        try:
            message = str(error)
            stack = "".join(traceback.format_exception(type(error), error, frames))
        except Exception:  # noqa: BLE001  (an exception may have a broken __str__)
            message, stack = "what was raised cannot be shown", ""
        self.fail("thrown", type(error).__name__, message, stack)

    def fail(self, kind: str, name: str, message: str, stack: str = "") -> NoReturn:
        """End with an error."""
        error = {"kind": kind, "type": name, "message": message[:MAX_CHARS], "stack": stack[-MAX_CHARS:]}
        self.end(f'"error":{json.dumps(error)}')

    def end(self, outcome: str) -> NoReturn:
        """Write the report and end, whatever threads the function has left running."""
        duration_ms = (time.perf_counter() - self.began) * 1000
        sys.stdout.flush()
        sys.stderr.flush()
        Path(self.call["report"]).write_text(f'{{"durationMs":{duration_ms},{outcome}}}', encoding="utf-8")
        os._exit(0)


def load(file: str) -> Any:
    """The module in a file of the project; the packages above it are imported first."""
    name = file.removesuffix(".py").replace("/", ".")
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(name, Path(file).absolute())
    assert spec  # noqa: S101  (a file that ends in .py has a loader)
    assert spec.loader  # noqa: S101
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(handler: Callable[..., Any], event: object, context: dict[str, Any]) -> Any:
    """What the handler answers; one that is asynchronous is waited for."""
    given = handler(event, context)
    if not inspect.isawaitable(given):
        return given

    async def wait(awaited: Awaitable[Any]) -> Any:
        return await awaited

    return asyncio.run(wait(given))


def as_json(value: object) -> str:
    """JSON that UTF-8 can hold; half of a surrogate pair stays an escape."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


if __name__ == "__main__":
    sys.path[0:1] = [str(Path.cwd()), str(Path(PACKAGES).absolute())]
    Caller(json.loads((HERE / "call.json").read_text(encoding="utf-8"))).run()
