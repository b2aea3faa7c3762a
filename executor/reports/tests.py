"""Reports of test runners as {total, passed, failed, skipped, durationMs, cases}.

A case is {name, file, line?, status, durationMs, message?}. `errors` lists files that could not be run at all, as
{file, message}; they are in no count, as with the runners themselves. `casesCut` is how many cases are not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from executor.reports.values import (
    MAX_NAME,
    Entry,
    inside,
    kept,
    listed,
    load_object,
    number,
    objects,
    path,
    required,
    text,
)

MAX_DURATION_MS = 7 * 24 * 3600 * 1000
_MOMENT_MS = 10**14
_STATUS = {"passed": "passed", "failed": "failed"}


def jest(data: bytes) -> Entry:
    """The JSON reporter of Jest, whose form Vitest's has too. Raises ReportInvalid."""
    report = load_object(data)
    cases, errors, ends = [], [], [report.get("startTime")]
    for file in required(report.get("testResults"), "testResults"):
        name = path(file.get("name"))
        found = [_assertion(name, each) for each in objects(file.get("assertionResults"))]
        cases += found
        ends.append(file.get("endTime"))
        if file.get("status") == "failed" and not any(map(_is_failure, found)):
            errors.append({"file": name, "message": text(file.get("message"))})
    moments = [moment for each in ends if (moment := number(each, _MOMENT_MS))]
    return summary(cases, max(moments, default=0) - min(moments, default=0), errors)


def mocha(data: bytes) -> Entry:
    """Mocha's JSON reporter; a hook that fails counts as a failed case, as with Mocha. Raises ReportInvalid."""
    report = load_object(data)
    failures, pending = (
        {_identity(each) for each in objects(report.get(name))} for name in ("failures", "pending")
    )  # fmt: skip
    ran = list(required(report.get("tests"), "tests"))
    known = {_identity(each) for each in ran}
    hooks = [each for each in objects(report.get("failures")) if _identity(each) not in known]
    cases = []
    for each in [*ran, *hooks]:
        status = "failed" if _identity(each) in failures else "skipped" if _identity(each) in pending else "passed"
        message = inside(each, "err", "stack") or inside(each, "err", "message")
        cases.append(case(each.get("fullTitle"), path(each.get("file")), status, each.get("duration"), message))
    return summary(cases, inside(report, "stats", "duration"))


def case(name: Any, file: str, status: str, duration_ms: Any, message: Any = None, line: Any = None) -> Entry:
    """One test in our form; `file` is one already."""
    made: Entry = {"name": text(name, MAX_NAME), "file": file}
    if number(line):
        made["line"] = number(line)
    made |= {"status": status, "durationMs": number(duration_ms, MAX_DURATION_MS)}
    if status == "failed" and (shown := text(message)):
        made["message"] = shown
    return made


def summary(cases: list[Entry], duration_ms: Any, errors: Sequence[Entry] = ()) -> Entry:
    """A report in our form: counts of all cases, and as many of them as a result may hold."""
    count = {status: sum(each["status"] == status for each in cases) for status in ("passed", "failed", "skipped")}
    return {
        "total": len(cases),
        **count,
        "durationMs": number(duration_ms, MAX_DURATION_MS),
        **listed("cases", cases, _is_failure),
        **({"errors": kept(list(errors), bool)} if errors else {}),
    }


def combined(found: Sequence[Entry]) -> Entry:
    """Several reports as one. What each left out stays left out, and counted."""
    cases = [each for report in found for each in report["cases"]]
    errors = [each for report in found for each in report.get("errors", ())]
    made = summary(cases, sum(report["durationMs"] for report in found), errors)
    made |= {name: sum(report[name] for report in found) for name in ("total", "passed", "failed", "skipped")}
    cut = made["total"] - len(made["cases"])
    return made | ({"casesCut": cut} if cut else {})


def _assertion(file: str, found: Entry) -> Entry:
    messages = found.get("failureMessages")
    message = "\n\n".join(_texts(messages)) if isinstance(messages, list) else ""
    name = found.get("fullName") or found.get("title")
    status = _STATUS.get(str(found.get("status")), "skipped")
    return case(name, file, status, found.get("duration"), message, inside(found, "location", "line"))


def _texts(values: list[Any]) -> Iterator[str]:
    return (each for each in values[:10] if isinstance(each, str))


def _identity(found: Entry) -> tuple[str, str]:
    return text(found.get("file")), text(found.get("fullTitle"))


def _is_failure(entry: Entry) -> bool:
    return bool(entry["status"] == "failed")
