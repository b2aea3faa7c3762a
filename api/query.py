"""Reads the parameters of a request's address and its preferences: all mistakes in them at once, unknown ones too."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from urllib.parse import parse_qsl

from bottle import request

from errors import InvalidRequest, Mistake

MAX_PARAMETERS = 50
_TRUE = {"1": True, "true": True, "0": False, "false": False}


class Query:
    """The parameters of this request. Read what is known, then call `check`; a wrong one reads as its default."""

    def __init__(self) -> None:
        """Parse the address; nothing is refused yet."""
        self._mistakes: list[Mistake] = []
        self._given: dict[str, list[str]] = {}
        if not request.query_string:
            return
        try:
            pairs = parse_qsl(request.query_string, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise InvalidRequest([Mistake("?", f"At most {MAX_PARAMETERS} parameters are read.")]) from None
        for name, value in pairs:
            self._given.setdefault(name, []).append(value)

    def check(self) -> None:
        """Raises InvalidRequest if anything was wrong, or is left over."""
        for name in self._given:
            self.mistake(name[:100], "There is no such parameter here.")
        if self._mistakes:
            raise InvalidRequest(self._mistakes)

    def mistake(self, name: str, detail: str) -> None:
        """Note what is wrong with a parameter."""
        self._mistakes.append(Mistake(f"?{name}", detail))

    def has(self, name: str) -> bool:
        """True if the parameter is there and was not read yet, even empty."""
        return name in self._given

    def text(self, name: str, most: int = 200) -> str:
        """Up to `most` characters without control characters, "" if it is not there."""
        values = self._given.pop(name, [""])
        if len(values) > 1 or len(values[0]) > most or re.search(r"[\x00-\x1f\x7f-\x9f]", values[0]):
            self.mistake(name, f"{name} must be one text of at most {most} characters, without control characters.")
            return ""
        return values[0]

    def number(self, name: str, default: int, least: int = 0, most: int = 10**12 - 1) -> int:
        """A whole number within bounds."""
        if name not in self._given:
            return default
        text = self.text(name)
        if text.isascii() and text.isdecimal() and len(text) <= 12 and least <= int(text) <= most:
            return int(text)
        self.mistake(name, f"{name} must be a whole number from {least:,} to {most:,}.")
        return default

    def flag(self, name: str) -> bool:
        """True or false; false if it is not there."""
        text = self.text(name) if name in self._given else "false"
        if text not in _TRUE:
            self.mistake(name, f"{name} must be true or false.")
        return _TRUE.get(text, False)

    def word(self, name: str, choices: Collection[str]) -> str:
        """One of `choices`, or "" if it is not there."""
        if name not in self._given:
            return ""
        text = self.text(name)
        if text not in choices:
            self.mistake(name, f"{name} must be one of {', '.join(choices)}.")
            return ""
        return text

    def words(self, name: str, choices: Collection[str]) -> tuple[str, ...]:
        """Some of `choices`, separated by commas; () if it is not there."""
        if name not in self._given:
            return ()
        chosen = tuple(dict.fromkeys(self.text(name, 2_000).split(",")))
        if not set(chosen) <= set(choices):
            self.mistake(name, f"{name} must be some of {', '.join(choices)}, separated by commas.")
        return chosen

    def matching(self, name: str, pattern: str, rule: str, most: int = 20) -> tuple[str, ...]:
        """Up to `most` texts, from repeating the parameter, that all match; () if it is not there."""
        values = self._given.pop(name, [])
        if len(values) > most or not all(re.fullmatch(pattern, value) for value in values):
            self.mistake(name, f"{name} must be {rule}, and may come up to {most} times.")
            return ()
        return tuple(values)

    def moment(self, name: str) -> int:
        """A moment in Unix milliseconds, 0 if it is not there."""
        if name not in self._given:
            return 0
        try:
            # A plus sign in an address means a space, unless it is escaped, which many forget.
            moment = datetime.fromisoformat(self.text(name).replace(" ", "+"))
            if moment.tzinfo is not None:
                return max(1, int(moment.timestamp() * 1000))
        except (ValueError, OverflowError):
            pass
        self.mistake(name, f"{name} must be a moment such as 2026-12-01T08:00:00Z, with its time zone.")
        return 0

    def wait_seconds(self, most: int) -> int:
        """How long the caller is willing to wait for the end of the job: `wait`, or else the header Prefer: wait."""
        if "wait" in self._given:
            return self.number("wait", 0, most=most)
        given = request.environ.get("HTTP_PREFER", "")
        preferred = given and re.search(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,9})\s*(?:$|[,;])", given)
        return min(int(preferred[1]), most) if preferred else 0
