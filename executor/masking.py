"""Takes a job's own values out of everything that is said about it: as they are, and in the forms programs print."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, quote_plus

from jobs import Result

MASK = "***"
MIN_CHARS = 8
#: Values of these are masked even if they are short.
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CRED|PRIVATE|SIGN", re.IGNORECASE)
MIN_SECRET_CHARS = 4
#: What is said all the time, and no secret.
_COMMON = {"production", "development"}


class Masker:
    """Knows the values of one job's `env`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Values under 8 characters are left alone (4 if the name speaks of a secret): they are words of any log."""
        forms = {name: set(_forms(name, value)) for name, value in environment.items()}
        # The longest first, or a part of one would keep a longer one from being found.
        self._forms = sorted(set().union(*forms.values()), key=len, reverse=True)
        self._secret_forms = [form for name in forms if _SECRET_NAME.search(name) for form in forms[name]]

    def __call__(self, text: str) -> str:
        """`text` with *** for every value, in any of its forms."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def shows_secret(self, text: str) -> bool:
        """True if `text` holds the value of a variable whose name speaks of a secret."""
        return any(form in text for form in self._secret_forms)

    def cut(self, text: str) -> str:
        """`text`, whose end was cut off, without what may be the beginning of a value there."""
        text = self(text)
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), MIN_SECRET_CHARS - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + MASK
        return text

    def result(self, result: Result) -> Result:
        """A result that may be shown."""
        return replace(
            result,
            message=self(result.message),
            command=self(result.command),
            output_tail=self(result.output_tail),
            skipped=tuple({name: self(text) for name, text in entry.items()} for entry in result.skipped),
            detail=self._inside(result.detail),
        )

    def _inside(self, value: Any) -> Any:
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(name): self._inside(part) for name, part in value.items()}
        return [self._inside(part) for part in value] if isinstance(value, list) else value


def _forms(name: str, value: str) -> Iterator[str]:
    """Every text that shows a value; of one with several lines, each line too."""
    least = MIN_SECRET_CHARS if _SECRET_NAME.search(name) else MIN_CHARS
    for part in {value, value.strip(), *value.splitlines()}:
        if len(part) >= least and part.lower() not in _COMMON:
            # A log is made of lines, so what has a line's end in it is found line by line.
            yield from (form for form in _encoded(part) if len(form.splitlines()) == 1)


def _encoded(part: str) -> Iterator[str]:
    raw = part.encode()
    yield part
    for ascii_only in (True, False):
        inner = json.dumps(part, ensure_ascii=ascii_only)[1:-1]
        yield from (inner, inner.replace("/", "\\/"))
    for escaped in (quote(part, safe=""), quote(part), quote_plus(part)):
        yield from (escaped, re.sub("%..", lambda found: found[0].lower(), escaped))
    yield from (raw.hex(), raw.hex().upper())
    for offset in range(3):
        yield from _base64(raw, offset)


def _base64(raw: bytes, offset: int) -> Iterator[str]:
    """What base64 shows of `raw` at `offset` bytes into a group of three, whatever is around it."""
    encoded = base64.b64encode(bytes(offset) + raw).decode()
    # Characters that hold a bit of a neighbour, or padding, may differ.
    if not offset:
        yield from (encoded, encoded.rstrip("="))
        for width in (64, 76):  # as PEM and MIME break lines
            yield from (line for at in range(0, len(encoded), width) if len(line := encoded[at : at + width]) >= 16)
    known = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[(offset + len(raw)) % 3]]
    if len(known) >= MIN_SECRET_CHARS:
        yield from (known, known.replace("+", "-").replace("/", "_"))
