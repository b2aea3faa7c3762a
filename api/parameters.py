"""The words in which operations of the API are described, and the parameters and headers that several of them take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from api import schemas
from api.feeds import KINDS
from api.joblog import MAX_TAIL, STREAMS
from api.listing import MAX_IDS, MAX_PAGE, PAGE
from api.operations import MAX_REASON
from jobs import Conclusion, JobType, Phase, Reason, Status

Schema = dict[str, Any]
#: A job that there is not, for examples.
JOB = "job-0123456789abcdef0123456789abcdef"
MOMENT = "2026-12-01T08:00:00.000Z"


@dataclass(frozen=True)
class Parameter:
    """A parameter of an address' query, or a header."""

    name: str
    schema: Schema
    text: str
    example: Any = None
    place: str = "query"


@dataclass(frozen=True)
class Answer:
    """What a good answer is: a model, or a media type; and an example of it."""

    text: str
    model: type[BaseModel] | None = None
    example: Any = None
    media: tuple[str, ...] = ("application/json",)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """What there is to know about a route beside its path, its scope, and its handler's docstring.

    `problems` are codes of answers.PROBLEMS; those that every operation has are left out.
    """

    group: str
    answers: dict[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    body_example: Any = None
    body_media: str = "application/json"
    needs_body: bool = False
    problems: tuple[str, ...] = ()


def said(*names: str) -> Schema:
    """An object that may hold these texts."""
    properties = {name: {"type": "string", "maxLength": MAX_REASON} for name in names}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def words(*choices: str) -> Schema:
    """Some of these, separated by commas."""
    one = "|".join(choices)
    return {"type": "string", "pattern": f"^({one})(,({one}))*$"}


_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
ID = "job-[0-9a-f]{32}"
_DATE = {"type": "string", "format": "date-time"}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**12 - 1}


def one_of(name: str, choices: Iterable[str], text: str) -> Parameter:
    """One of these words; the first is the example."""
    return Parameter(name, {"type": "string", "enum": list(map(str, choices))}, text, str(next(iter(choices))))


KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "The same key and body again answer the same job, for a day.",
    "build-42",
    "header",
)
TRACE = Parameter(
    "traceparent",
    {"type": "string"},
    "The caller's place in a trace (W3C Trace Context), which the job and its webhooks go on from.",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "header",
)
FILTERS = (
    one_of("status", Status, "Where the jobs are in their life."),
    one_of("conclusion", Conclusion, "How they ended."),
    one_of("reason", Reason, "Why they ended."),
    one_of("type", JobType, "What they do."),
    Parameter("chatId", {"type": "string", "maxLength": 200, "pattern": _PRINTABLE}, "The chat they are of.", "chat-1"),
    Parameter(
        "tag",
        {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{1,64}$"}, "maxItems": 20},
        "A tag they have; given several times, they have all of them.",
        ["nightly"],
    ),
    Parameter("from", _DATE, "They came in at this moment or later.", MOMENT),
    Parameter("to", _DATE, "They came in at this moment or earlier.", "2026-12-02T08:00:00Z"),
    Parameter(
        "q",
        {"type": "string", "minLength": 2, "maxLength": 100, "pattern": _PRINTABLE},
        "Words that id, message or tags hold, whatever the case.",
        "error TS2322",
    ),
    Parameter("cursor", {"type": "string", "pattern": "^[0-9a-f]{1,13}$"}, "What the page before gave as `next`."),
    Parameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, f"Jobs in a page; {PAGE} if unsaid.", 20
    ),
    Parameter("fields", words(*schemas.FIELDS), "Only these fields of the records.", "jobId,status,message"),
    Parameter("include", words("result", "artifacts", "attempts"), "Also these fields.", "result"),
    Parameter(
        "ids",
        {"type": "string", "pattern": f"^{ID}(,{ID}){{0,{MAX_IDS - 1}}}$"},
        f"The jobs of these ids, up to {MAX_IDS}, instead of a page; filters do not count then.",
    ),
)
LINES = (
    Parameter("from", _NUMBER, "The first line, from 0; `offset` means the same.", 100),
    Parameter("to", _NUMBER, "The line before which to end; 0 means as far as it goes.", 200),
    Parameter("tail", {"type": "integer", "minimum": 1, "maximum": MAX_TAIL}, "Only the last lines of the range."),
    one_of("phase", Phase, "Only lines of this phase."),
    one_of("stream", STREAMS, "Only lines of this stream."),
    one_of("format", ("text", "ndjson"), "Text, or an object for each line; else the header Accept decides."),
    Parameter("download", {"type": "string", "enum": ["true", "false", "1", "0"]}, "As a file to save.", "true"),
)
EVENTS = (
    Parameter("events", words(*KINDS), "Only events of these kinds.", "state,log"),
    Parameter("lastEventId", {"type": "string", "maxLength": 100}, "For clients that cannot send the header."),
    Parameter("Last-Event-ID", {"type": "string", "pattern": "^[ -~]{0,100}$"}, "Go on after this.", place="header"),
)
CURSOR = Parameter("cursor", _NUMBER, "What the page before gave as `next`.", 42)
