"""The service's own log."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from typing import Any

import pytest

import config
import logs
from webhook import new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Logged:
    """A logger of its own, configured as the service's, whose lines are kept."""

    def __init__(self, form: Any) -> None:
        self._sink = io.StringIO()
        configured = logs.configuration("INFO", form, [SECRET, "no"])
        formatter = configured["formatters"]["line"]
        handler = logging.StreamHandler(self._sink)
        handler.setFormatter(formatter.pop("()")(**formatter))
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    @property
    def text(self) -> str:
        """All that was logged."""
        return self._sink.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        """It, as JSON lines."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(params=["console", "json"])
def logged(request: pytest.FixtureRequest) -> Logged:
    return Logged(request.param)


def test_one_record_is_one_line(logged: Logged) -> None:
    """Text of others, wherever in a record, cannot begin a line of its own or move a terminal's cursor."""
    forged = 'a\r\n{"event":"forged"}\x1b[2J\x85\u2028'
    logged.logger.info("path %s", forged, extra={"path": forged})

    assert len(logged.text.splitlines()) == 1
    assert "\x1b" not in logged.text


def test_secrets_are_hidden(logged: Logged) -> None:
    """A secret is hidden in the message, in what it is about, and in a traceback; words that are too short are not."""
    try:
        int(f"bad {SECRET}")
    except ValueError:
        logged.logger.exception("with %s, no", SECRET, extra={"url": f"x?{SECRET}", "many": [SECRET, {"a": SECRET}]})

    assert SECRET not in logged.text
    assert logged.text.count(logs.HIDDEN) >= 4
    assert "no" in logged.text


def test_json() -> None:
    """Each JSON line has moment, level, logger, event, what it is about, and what the thread is busy with."""
    logged = Logged("json")
    with logs.bound(job="job-1", attempt=2):
        logged.logger.warning("it %s", "ends", extra={"conclusion": "success"})
    logged.logger.info("later ü")
    first, second = logged.events

    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "it ends", "level": "warning", "logger": "test", "job": "job-1", "attempt": 2, "conclusion": "success",
    }  # fmt: skip
    assert "job" not in second
    assert second["event"] == "later ü"


def test_an_exception_is_part_of_its_record() -> None:
    """In JSON a traceback does not break the line."""
    logged = Logged("json")
    try:
        int("deep")
    except ValueError:
        logged.logger.exception("failed")

    (event,) = logged.events
    assert "ValueError: invalid literal" in event["exception"]


def test_all_secrets_of_the_settings_are_known() -> None:
    """Every setting that is a secret, and what is inside of one, is among those that no log shows."""
    other = new_secret()
    settings = config.load(
        {
            "REDIS_URL": "redis://:sesame-street@localhost/0",
            "CONVEX_SITE_URL": "https://a.convex.site",
            "WEBHOOK_SECRET": SECRET,
            "WEBHOOK_ENDPOINTS": json.dumps({"ops": {"url": "https://ops.example", "secret": other}}),
        }
    )

    assert {"sesame-street", SECRET, other} <= set(settings.secret_values)


def test_a_librarys_logger() -> None:
    """A library that brought handlers of its own logs like everything else once it is taken over."""
    logger = logging.getLogger("test.library")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logs.take_over("test.library")

    assert (logger.handlers, logger.propagate) == ([], True)
