"""What a job's report files say, as part of its result, and as lines for people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from executor import reports
from executor.commands import Report
from executor.reports import FORMATS, MAX_BYTES, ReportInvalid
from jobs import Artifact, Limits

FOLDER = "reports"
MAX_FILES = 200
MAX_ALL_BYTES = 2 * MAX_BYTES
MAX_LINES = 100
MAX_LINE_CHARS = 300


def limits(of_job: Limits) -> Limits:
    """What the folder of reports may hold, as limits of a collector."""
    return replace(of_job, artifact_bytes=MAX_ALL_BYTES, artifact_files=MAX_FILES)


@dataclass(slots=True)
class Taken:
    """The report files that were ordered, out of all that a job left in the folder."""

    wanted: frozenset[str]
    files: dict[str, bytes] = field(default_factory=dict)

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        """Take one file, if it was ordered; blocks that are not wanted are left unread."""
        if path in self.wanted:
            self.files[path] = b"".join(blocks)
        content = self.files.get(path, b"")
        return Artifact(path, len(content), hashlib.sha256(content).hexdigest())


def gathered(wanted: Iterable[Report], files: Mapping[str, bytes], over: str | None) -> dict[str, Any]:
    """The result's tests, coverage and lint; `reportInvalid` lists reports that cannot be used, each with why.

    `over` is the cap that the folder of reports passed, if it did. `selfReported` says whose word all this is.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    invalid = []
    for report in wanted:
        try:
            read = reports.read(report.format, _content(report, files, over))
        except ReportInvalid as error:
            invalid.append({"tool": report.tool, "report": report.path, "reason": str(error)})
        else:
            found.setdefault(FORMATS[report.format].kind, []).append(read)
    body: dict[str, Any] = {kind: reports.combined(kind, parts) for kind, parts in found.items()}
    return body | ({"selfReported": True} if body else {}) | ({"reportInvalid": invalid} if invalid else {})


def is_failure(code: int, fail_on: str, detail: Mapping[str, Any]) -> bool:
    """True if a command that ended with `code` failed, by what its linters found and the least severity that counts.

    Without findings to go by, or with a report missing, the exit code alone decides.
    """
    lint = detail.get("lint")
    if lint is None or "reportInvalid" in detail:
        return code != 0
    if fail_on == "never":
        return False
    return bool(code or lint["errors"] or (fail_on == "warning" and lint["warnings"]))


def verdict(detail: Mapping[str, Any]) -> str:
    """Why a command that failed did so, by its reports; "" if they do not say."""
    tests, lint = detail.get("tests", {}), detail.get("lint", {})
    exited = any(each["tool"] == "function" for each in detail.get("reportInvalid", ()))
    counts = (
        (tests.get("failed", 0), f"{tests.get('failed')} of {tests.get('total')} tests failed"),
        (files := len(tests.get("errors", ())), f"{files} test files cannot be run"),
        (
            lint.get("errors", 0) + lint.get("warnings", 0),
            f"{lint.get('errors')} errors and {lint.get('warnings')} warnings were found",
        ),
        (exited, "the function ended its process before it returned"),
    )
    return ", ".join(words for count, words in counts if count)


def lines(detail: Mapping[str, Any]) -> Iterator[str]:
    """What was found, as a log shows it: linters are told to write files, so their own output is empty."""
    found = detail.get("lint")
    if not found:
        return
    for issue in found["issues"][:MAX_LINES]:
        place = ":".join(str(issue[name]) for name in ("file", "line", "column") if issue[name])
        rule = f" ({issue['rule']})" if issue["rule"] else ""
        yield f"{place}: {issue['severity']}: {issue['message']}{rule}".replace("\n", " ")[:MAX_LINE_CHARS]
    if (more := len(found["issues"]) + found.get("issuesCut", 0) - MAX_LINES) > 0:
        yield f"and {more} more"
    yield f"{found['errors']} errors, {found['warnings']} warnings"


def _content(report: Report, files: Mapping[str, bytes], over: str | None) -> bytes:
    if over:
        raise ReportInvalid(f"the folder of reports holds too many {over}")
    if report.path not in files:
        raise ReportInvalid("it was not written")
    return files[report.path]
