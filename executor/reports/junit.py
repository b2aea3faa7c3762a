"""JUnit's XML, as pytest, node:test and Bun write it, in the form of executor/reports/tests.py.

No document type, so no entity and nothing fetched; read as a stream, so that no tree is ever in memory.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from xml.parsers import expat

from executor.reports.tests import case, summary
from executor.reports.values import MAX_MESSAGE, MAX_NUMBER, Entry, ReportInvalid, bounded, path

MAX_DEPTH = 100
MAX_ELEMENTS = 500_000
_ENDS = {"failure": "failed", "error": "failed", "skipped": "skipped"}


def read(data: bytes, first_line: int = 0) -> Entry:
    """A report; <error> counts as failed. pytest counts the lines of a file from 0. Raises ReportInvalid."""
    reader = _Reader(first_line)
    try:
        reader.parser.Parse(bounded(data), True)
    except ReportInvalid:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ReportInvalid(f"it is not XML that can be read: {str(error)[:200]}") from error
    if reader.root not in {"testsuites", "testsuite"}:
        raise ReportInvalid("it has no test suites")
    return summary(reader.cases, sum(each["durationMs"] for each in reader.cases))


class _Reader:
    """Hears the elements of one report."""

    def __init__(self, first_line: int) -> None:
        self._first_line = first_line
        self.cases: list[Entry] = []
        self.root = ""
        self._elements = 0
        self._open: list[str] = []
        self._suites: list[str] = []
        self._case: dict[str, str] = {}
        self._status = "passed"
        self._message = ""
        self._text: list[str] = []
        self._text_room = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _doctype(self, *_: Any) -> None:
        raise ReportInvalid("it has a document type, which no test runner writes")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._open.append(name)
        if self._elements > MAX_ELEMENTS or len(self._open) > MAX_DEPTH:
            raise ReportInvalid("it has too many elements, or too deep ones")
        self.root = self.root or name
        if name == "testsuite":
            self._suites.append(attributes.get("name", ""))
        elif name == "testcase":
            self._case, self._status, self._message = attributes, "passed", ""
        elif self._case and name in _ENDS and self._status != "failed":
            self._status, self._message = _ENDS[name], attributes.get("message", "")[:MAX_MESSAGE]
            self._text, self._text_room = [], 4 * MAX_MESSAGE

    def _end(self, name: str) -> None:
        self._open.pop()
        if name == "testsuite" and self._suites:
            self._suites.pop()
        elif name == "testcase" and self._case:
            self.cases.append(self._finished(self._case))
            self._case = {}
        elif name in _ENDS:
            detail = "".join(self._text).strip()
            if detail:  # which begins with the message, or shows the lines around it
                self._message = detail if self._message in detail else f"{self._message}\n{detail}"
            self._text, self._text_room = [], 0

    def _characters(self, text: str) -> None:
        if self._text_room > 0:
            self._text.append(text[: self._text_room])
            self._text_room -= len(text)

    def _finished(self, found: dict[str, str]) -> Entry:
        file = path(found.get("file", ""))
        name = " ".join([*self._groups(found, file), found.get("name", "")])
        duration_ms = 1000 * _float(found.get("time", ""))
        line = _line(found.get("line", ""), first=self._first_line if file.endswith(".py") else 1)
        return case(name, file, self._status, duration_ms, self._message, line)

    def _groups(self, found: dict[str, str], file: str) -> list[str]:
        """The names of what the test is in: suites that are no file, or classes of a Python module."""
        classname = found.get("classname", "")
        parts = PurePosixPath(file).with_suffix("").parts if file.endswith(".py") else ()
        for at in range(len(parts)):  # the module's name begins where its package does
            if classname.startswith(module := ".".join(parts[at:]) + "."):
                return classname[len(module) :].split(".")
        if classname.startswith("unittest.loader._FailedTest"):  # a module that cannot be imported
            return []
        return [name for name in self._suites if name not in {"", "pytest", file} and path(name) != file]


def unittest(data: bytes) -> Entry:
    """A report of unittest-xml-reporting, which counts lines from 1. Raises ReportInvalid."""
    return read(data, first_line=1)


def _float(value: str) -> float:
    try:
        return min(float(value), MAX_NUMBER)
    except ValueError:
        return 0.0


def _line(value: str, first: int) -> int:
    """A line counted from 1; pytest counts from 0. 0 if there is none."""
    return int(value) + 1 - first if value.isascii() and value.isdigit() and len(value) < 10 else 0
