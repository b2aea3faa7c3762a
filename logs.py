"""The service's own log: one record per event, as text or as JSON lines, with what it is about, and without secrets."""

from __future__ import annotations

import contextlib
import logging
import logging.config
import re
from collections.abc import Iterable
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "***"
#: Shorter ones would be found in every other word.
SHORTEST_SECRET = 6
#: What could begin a line of its own, or move a terminal's cursor.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configuration(level: str, form: Literal["console", "json"], secrets: Iterable[str]) -> dict[str, Any]:
    """For logging.config.dictConfig: everything that is logged, to standard error. `secrets` never appear in it."""
    told: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _Hide(secrets),
    ]
    if form == "json":
        shown.append(structlog.processors.JSONRenderer())
    else:
        shown += [_on_one_line, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)]
    formatter = {"()": structlog.stdlib.ProcessorFormatter, "foreign_pre_chain": told, "processors": shown}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {},
    }


def configure(level: str, form: Literal["console", "json"], secrets: Iterable[str]) -> None:
    """Let this process log so."""
    logging.config.dictConfig(configuration(level, form, secrets))


def take_over(name: str) -> None:
    """Let a library's logger, which brought handlers of its own, log like everything else."""
    logger = logging.getLogger(name)
    logger.handlers.clear()
    logger.propagate = True


def bound(**about: Any) -> contextlib.AbstractContextManager[None]:
    """Within it, all records of this thread say what they are about."""
    return structlog.contextvars.bound_contextvars(**about)


class _Hide:
    """Puts HIDDEN in the place of every secret, wherever in a record it stands."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {name: self._hidden(value) for name, value in event.items()}

    def _hidden(self, value: Any) -> Any:
        if not self._pattern:
            return value
        if isinstance(value, str):
            return self._pattern.sub(HIDDEN, value)
        if isinstance(value, dict):
            return {name: self._hidden(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(item) for item in value]
        return value


def _on_one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Text of others cannot begin a line of its own; the lines of a traceback are set off."""
    trace = event.pop("exception", None)
    shown = {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}
    if trace:
        shown["exception"] = "\n".join(f"    {_escaped(line)}" for line in trace.split("\n"))
    return shown


def _escaped(text: str) -> str:
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
