"""The bodies of webhooks: UTF-8 JSON of at most 20 KB, whatever a job holds.

They suit Convex: valid Unicode, lists of `{path, …}` instead of maps with paths as keys, and a field without a value
is absent, because Convex's optional fields do not take null.
"""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from events import Delivery
from jobs import Job, Status, iso

MAX_BODY_BYTES = 20_000
MESSAGE_BYTES = 3_000
RESULT_BYTES = 4_000
ENTRY_MESSAGE_BYTES = 400
#: What stored artifacts leave to the log; they have all other room, because only those that are told are of use.
LOG_BYTES = 3_000
PHASES_BYTES = 1_500
ARTIFACT_BYTES = 5_000
#: What a test of an endpoint tells; receivers take no other notice of it than their answer.
TEST_EVENT = "webhook.test"


@dataclass(frozen=True, slots=True)
class Form:
    """How bodies are made. `base_url` stands before the API's addresses in links; without it they are relative.

    profile: chef keeps the original service's fields (output, error, logs, duration) beside the others; full leaves
    out those that repeat another.
    """

    profile: Literal["chef", "full"] = "chef"
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where files of a job are in Convex storage: artifacts by path -> storage id; the log as `logFile` shows it."""

    artifacts: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, Any] | None = None


def result_body(job: Job, delivery: Delivery, log_tail: str, form: Form, stored: Stored | None = None) -> bytes:
    """The body that tells how a job ended. It is the same at every try, but for files that were stored in between.

    What does not fit is cut: the end of messages, the beginning of the log, the last of `artifactCount` artifacts, and
    of the result the entries that matter least (`casesCut` and the like), then whole parts (`resultOmitted`).
    """
    # Not-a-number and infinity, which a tool's report may hold, are not JSON: they become null.
    result = json.loads(json.dumps(job.result), parse_constant=lambda name: None)
    phases = _first_that_fit(result.get("phases", []), PHASES_BYTES)
    summary, omitted = _summary(result)
    message = _head(job.message, MESSAGE_BYTES)
    body = {
        **_identity(job, delivery, job.attempt),
        "status": job.status.value,
        "conclusion": job.conclusion,
        "reason": job.reason,
        "message": message,
        "phases": phases,
        "result": summary,
        "resultOmitted": omitted,
        "artifactCount": len(job.artifacts),
        "links": _links(job, form),
        "durationMs": job.duration_ms,
        "timestamp": iso(job.finished_ms),
    }
    if form.profile == "chef":
        body |= {"error": message if job.status is Status.FAILED else "", "duration": job.duration_ms}
    body = _without_gaps(body | {"logFile": stored.log if stored else None})
    body["artifacts"] = _artifacts(job, form, stored, MAX_BODY_BYTES - len(_encode(body)))
    names = ("output", "logs") if form.profile == "chef" else ("output",)
    return _encode(body | _log_fields(log_tail, MAX_BODY_BYTES - len(_encode(body)), names))


def news_body(job: Job, delivery: Delivery, form: Form) -> bytes:
    """The body of any event before the end: how far the job was at the moment that is told of."""
    news = delivery.news
    body = {
        **_identity(job, delivery, news.attempt),
        "status": news.status,
        "progress": news.progress,
        "phase": news.phase,
        "reason": news.reason,
        "message": _head(news.message, MESSAGE_BYTES),
        "links": _links(job, form),
        "timestamp": iso(news.at_ms),
    }
    return _encode(_without_gaps(body))


def trial_body(endpoint: str) -> bytes:
    """The body of a test, which tells of no job."""
    return _encode({"event": TEST_EVENT, "endpoint": endpoint, "timestamp": iso(time.time_ns() // 10**6)})


def _identity(job: Job, delivery: Delivery, attempt: int) -> dict[str, Any]:
    return {
        "event": delivery.event.value,
        "jobId": job.id,
        "type": job.type.value,
        "chatId": job.chat_id,
        "attempt": attempt,
        "seq": delivery.seq,
    }


def _links(job: Job, form: Form) -> dict[str, str]:
    here = f"{form.base_url}/api/jobs/{job.id}"
    links = {"job": here, "logs": f"{here}/logs"}
    if job.artifacts:
        links |= {"artifacts": f"{here}/artifacts", "archive": f"{here}/artifacts.tar.gz"}
    return links


def _artifacts(job: Job, form: Form, stored: Stored | None, left: int) -> Sequence[object]:
    """The first artifacts, each with its storage id or else a link."""
    base = f"{form.base_url}/api/jobs/{job.id}/artifacts/"
    ids = stored.artifacts if stored else {}
    linked = [
        {**each, "storageId": ids[each["path"]]}
        if each["path"] in ids
        # Half of a surrogate pair has no form in an address: such a file is had through the archive.
        else {**each, "href": base + quote(each["path"], errors="replace")}
        for each in job.artifacts
    ]
    return _first_that_fit(linked, max(ARTIFACT_BYTES, left - LOG_BYTES) if ids else ARTIFACT_BYTES)


def _without_gaps(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value not in ("", None)}


def _encode(value: object) -> bytes:
    """Compact UTF-8 JSON; half of a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _longest(length: int, room: int, part: Callable[[int], object]) -> int:
    """The largest n up to `length` for which part(n), encoded, takes at most `room` bytes; 0 if none does."""
    return max(0, bisect.bisect_right(range(length + 1), room, key=lambda n: len(_encode(part(n)))) - 1)


def _head(text: str, room: int) -> str:
    text = text[:room]
    return text[: _longest(len(text), room, lambda n: text[:n])]


def _first_that_fit(items: Sequence[object], room: int) -> Sequence[object]:
    return items[: _longest(len(items), room, lambda n: items[:n])]


def _summary(result: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The result without what the body tells elsewhere, and the names of what was too large, the largest first.

    Reports keep their totals; of their lists, the worst entries that fit are kept, and `<list>Cut` counts the others.
    """
    steps = result.get("steps")
    for each in (result, *filter(_is_object, steps if isinstance(steps, list) else ())):
        each.pop("phases", None)
        each.pop("outputTail", None)
    fields = {name: value for name, value in result.items() if value is not None}
    if len(_encode(fields)) <= RESULT_BYTES:
        return fields, []
    taken = [(part, holder, name, _taken_out(holder, name)) for part in fields for holder, name in _lists(fields[part])]
    omitted = []
    while len(_encode(fields)) > RESULT_BYTES:
        largest = max(fields, key=lambda name: len(_encode(fields[name])))
        del fields[largest]
        omitted.append(largest)
    places = [(holder, name, entries) for part, holder, name, entries in taken if part in fields]
    for number, (holder, name, entries) in enumerate(places):
        _put_back(holder, name, entries, (RESULT_BYTES - len(_encode(fields))) // (len(places) - number))
    return fields, omitted


#: The lists inside reports. Their worst entries are those with the least number.
_RANK: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "errors": lambda error: 0,
    "cases": lambda case: {"failed": 0, "skipped": 1}.get(str(case.get("status")), 2),
    "issues": lambda issue: {"error": 0, "warning": 1}.get(str(issue.get("severity")), 2),
    "files": lambda file: file["lines"] if isinstance(file.get("lines"), int | float) else 0,
}


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _lists(part: Any) -> list[tuple[dict[str, Any], str]]:
    """Where lists of entries are inside a part of the result, however deep: the object that holds one, and its name."""
    if isinstance(part, list):
        return [place for each in part for place in _lists(each)]
    if not isinstance(part, dict):
        return []
    own = [name for name in _RANK if isinstance(part.get(name), list) and all(map(_is_object, part[name]))]
    others = (place for name, each in part.items() if name not in own for place in _lists(each))
    return [*((part, name) for name in own), *others]


def _taken_out(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list, which its report only counts from now on."""
    entries: list[dict[str, Any]] = holder.pop(name)
    holder[f"{name}Cut"] = holder.get(f"{name}Cut", 0) + len(entries)
    return entries


def _put_back(holder: dict[str, Any], name: str, entries: list[dict[str, Any]], room: int) -> None:
    """As many of the worst entries as have room."""
    worst = [_shortened(entry) for entry in sorted(entries, key=_RANK[name])]
    kept = _first_that_fit(worst, room - len(f'"{name}":,'))
    cut = holder.pop(f"{name}Cut") - len(kept)
    holder |= {name: kept, **({f"{name}Cut": cut} if cut else {})}


def _shortened(entry: Mapping[str, Any]) -> dict[str, Any]:
    message = entry.get("message")
    return {**entry, **({"message": _head(message, ENTRY_MESSAGE_BYTES)} if isinstance(message, str) else {})}


def _log_fields(log_tail: str, left: int, names: Sequence[str]) -> dict[str, Any]:
    """The last whole lines of the log, as text and as a list if `names` has that, adding at most `left` bytes."""
    text = log_tail.removesuffix("\n")

    def last(n: int) -> dict[str, Any]:
        tail = text[len(text) - n :]
        forms = {"output": tail, "logs": tail.split("\n") if tail else []}
        return {name: forms[name] for name in names}

    n = _longest(min(len(text), left), left, last)
    kept = text[len(text) - n :]
    if n < len(text) and text[len(text) - n - 1] != "\n" and "\n" in kept:
        n -= kept.index("\n") + 1
    return last(n)
