"""Reports of linters and of the type checker as {errors, warnings, issues}.

An issue is {file, line, column, rule, severity, message}; severity is error, warning or info, and line and column
count from 1 (0: unknown). Errors are the last to be left out; `issuesCut` is how many are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from executor.reports.values import (
    MAX_NAME,
    Entry,
    ReportInvalid,
    bounded,
    inside,
    listed,
    load,
    load_object,
    number,
    objects,
    path,
    required,
    text,
)

MAX_LINES = 200_000
MAX_CONTINUED = 30
_SEVERITY = {"fatal": "error", "error": "error", "warning": "warning", "warn": "warning"}


def eslint(data: bytes) -> Entry:
    """ESLint's JSON. Raises ReportInvalid."""
    issues = []
    for file in required(load(data), "files"):
        name = path(file.get("filePath"))
        for each in objects(file.get("messages")):
            severity = "error" if each.get("fatal") is True or each.get("severity") == 2 else "warning"
            issues.append(_issue(name, each, each.get("ruleId"), severity, each.get("message")))
    return _summary(issues)


def biome(data: bytes) -> Entry:
    """Biome's JSON. Raises ReportInvalid."""
    return _summary([_of_biome(each) for each in required(load_object(data).get("diagnostics"), "diagnostics")])


def oxlint(data: bytes) -> Entry:
    """Oxlint's JSON. Raises ReportInvalid."""
    issues = []
    for each in required(load_object(data).get("diagnostics"), "diagnostics"):
        span = inside(next(objects(each.get("labels")), {}), "span")
        issues.append(_issue(path(each.get("filename")), span, each.get("code"), _severity(each), each.get("message")))
    return _summary(issues)


def ruff(data: bytes) -> Entry:
    """Ruff's JSON; what has no severity is an error. Raises ReportInvalid."""
    issues = []
    for each in required(load(data), "findings"):
        place = {"line": inside(each, "location", "row"), "column": inside(each, "location", "column")}
        severity = _severity(each) if "severity" in each else "error"
        issues.append(_issue(path(each.get("filename")), place, each.get("code"), severity, each.get("message")))
    return _summary(issues)


_TSC = re.compile(
    r"(?:(?P<file>[^\s(][^(]*)\((?P<line>\d+),(?P<column>\d+)\): )?error (?P<rule>TS\d+): (?P<message>.*)"
)


def tsc(data: bytes) -> Entry:
    """What `tsc --pretty false` prints; indented lines continue a message. Raises ReportInvalid."""
    if bounded(data).count(b"\n") > MAX_LINES:
        raise ReportInvalid(f"it has more than {MAX_LINES:,} lines")
    issues: list[Entry] = []
    continued = 0
    for line in data.decode("utf-8", "replace").splitlines():
        if found := _TSC.fullmatch(line[:10_000]):
            place = {name: int(found[name][:9]) for name in ("line", "column") if found[name]}
            issues.append(_issue(path(found["file"]), place, found["rule"], "error", found["message"]))
            continued = 0
        elif line.startswith("  ") and issues and continued < MAX_CONTINUED:
            continued += 1
            issues[-1]["message"] = text(f"{issues[-1]['message']}\n{line}")
    return _summary(issues)


_SVELTE = re.compile(r"\d{1,20} (\{.*\})")


def svelte_check(data: bytes) -> Entry:
    """What `svelte-check --output machine-verbose` prints; places count from 0 in it. Raises ReportInvalid."""
    if bounded(data).count(b"\n") > MAX_LINES:
        raise ReportInvalid(f"it has more than {MAX_LINES:,} lines")
    lines = data.decode("utf-8", "replace").splitlines()
    if not any(line.endswith("FILES_WITH_PROBLEMS") for line in lines):
        raise ReportInvalid("it was not completed")
    return _summary(
        [_of_svelte(load_object(found[1].encode())) for line in lines if (found := _SVELTE.fullmatch(line))]
    )


def combined(found: Sequence[Entry]) -> Entry:
    """Several reports as one. What each left out stays left out, and counted."""
    made = _summary([each for report in found for each in report["issues"]])
    cut = made.get("issuesCut", 0) + sum(report.get("issuesCut", 0) for report in found)
    made |= {name: sum(report[name] for report in found) for name in ("errors", "warnings")}
    return made | ({"issuesCut": cut} if cut else {})


def _issue(file: str, place: Any, rule: Any, severity: str, message: Any) -> Entry:
    return {
        "file": file,
        "line": number(inside(place, "line")),
        "column": number(inside(place, "column")),
        "rule": text(rule, MAX_NAME),
        "severity": severity,
        "message": text(message),
    }


def _severity(found: Entry) -> str:
    return _SEVERITY.get(str(found.get("severity")), "info")


def _summary(issues: list[Entry]) -> Entry:
    count = {name: sum(each["severity"] == name for each in issues) for name in ("error", "warning")}
    return {"errors": count["error"], "warnings": count["warning"], **listed("issues", issues, _is_error)}


def _is_error(issue: Entry) -> bool:
    return bool(issue["severity"] == "error")


def _of_biome(found: Entry) -> Entry:
    where = found.get("location")
    file = inside(where, "path", "file") or inside(where, "path")
    place = inside(where, "start") or _place_of_span(where)
    message = found.get("message")
    words = message if isinstance(message, str) else found.get("description") or "".join(_marked_up(message))
    return _issue(path(file), place, found.get("category"), _severity(found), words)


def _of_svelte(found: Entry) -> Entry:
    code, start = found.get("code"), found.get("start")
    place = {"line": number(inside(start, "line")) + 1, "column": number(inside(start, "character")) + 1}
    rule = f"TS{code}" if isinstance(code, int) else code
    severity = _SEVERITY.get(str(found.get("type")).lower(), "info")
    return _issue(path(found.get("filename")), place, rule, severity, found.get("message"))


def _place_of_span(where: Any) -> Entry:
    """Line and column of a place that older versions give as offsets into the source, which they add."""
    span, source = inside(where, "span"), inside(where, "sourceCode")
    if not isinstance(span, list) or not span or not isinstance(source, str):
        return {}
    before = source.encode("utf-8", "replace")[: number(span[0])].split(b"\n")
    return {"line": len(before), "column": len(before[-1]) + 1}


def _marked_up(message: Any) -> Iterator[str]:
    return (content for each in objects(message) if isinstance(content := each.get("content"), str))
