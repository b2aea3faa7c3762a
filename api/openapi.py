"""Puts the description of the API together (OpenAPI 3.1) from the routes, what is said of them, and the models."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import allowance
import npm
from api import schemas
from api.answers import PROBLEMS
from api.batch import MAX_JOBS
from api.described import OPERATIONS, PLACES
from api.parameters import Answer, Operation, Parameter, Schema
from form import MAX_PACKAGES, MAX_VARIABLES, RETRIED, SECTIONS, Bounds, Submission
from jobs import STEPS
from origins import SOURCES

#: method, path as Bottle reads it, what answers, scope of the key that it wants.
Route = tuple[str, str, Callable[..., Any], str]

_TEMPLATE = "#/components/schemas/{model}"
#: What every operation may be answered, beside its own problems; with a body, and behind a key.
_ALWAYS = ("internal_error", "store_unavailable", "host_refused")
_WITH_SCOPE = ("unauthorized", "forbidden", "origin_refused", "rate_limited")
_KEYS = "An API key, cw_…. Needed once the service has any; x-scope says which scope (docs/api-access.md)."
_WITH_BODY = ("body_broken", "body_incomplete", "body_too_large", "unsupported_media_type")
_ABOUT = """\
Takes generated web projects, builds, tests and lints them in throw-away containers, and tells how that went.

Every address below `/api` is below `/api/v1` too. Mistakes are answered as `application/problem+json` with every wrong
field at once; `code` is the stable name of what went wrong.
"""


def document(routes: Iterable[Route], bounds: Bounds, version: str, max_wait_s: int) -> dict[str, Any]:
    """The whole description of a service with these bounds. Raises KeyError for a route that nothing is said of."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler, scope in routes:
        shown = re.sub(r"<(\w+)[^>]*>", r"{\1}", path)
        described = OPERATIONS[method, path]
        paths.setdefault(shown, {})[method.lower()] = _operation(described, method, shown, handler, scope, max_wait_s)
    for answer in ("200", "201"):
        paths["/api/jobs"]["post"]["responses"][answer]["links"] = dict(_links(paths))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chef Workers", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _models() | _bodies(bounds),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _KEYS}},
        },
    }


def _operation(
    described: Operation, method: str, path: str, handler: Callable[..., Any], scope: str, max_wait_s: int
) -> dict[str, Any]:
    summary = " ".join((handler.__doc__ or "").split("\n\n")[0].split())
    name = getattr(handler, "__name__", "")
    parameters = [*_places(path), *map(_parameter, (*described.parameters, *_waits(method, path, max_wait_s)))]
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{name}_{path.removeprefix('/api')}").strip("_"),
        "tags": [described.group],
        "summary": summary,
        "x-scope": scope,
        "parameters": parameters,
        "responses": _responses(described, bool(parameters), is_open=scope == "open"),
    }
    if scope != "open":
        operation["security"] = [{"key": []}, {}]
    if described.body:
        example = described.body_example
        content = {"schema": described.body} | ({"examples": {"example": {"value": example}}} if example else {})
        operation["requestBody"] = {"required": described.needs_body, "content": {described.body_media: content}}
    return {name: value for name, value in operation.items() if value != []}


def _links(paths: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What can be done with a new job by its id."""
    for path, methods in paths.items():
        if path.startswith("/api/jobs/{job_id}") and path.count("{") == 1:
            for operation in methods.values():
                name = operation["operationId"]
                yield name, {"operationId": name, "parameters": {"job_id": "$response.body#/jobId"}}


def _waits(method: str, path: str, max_wait_s: int) -> tuple[Parameter, ...]:
    if (method, path) not in {("POST", "/api/jobs"), ("GET", "/api/jobs/{job_id}")}:
        return ()
    schema = {"type": "integer", "minimum": 0, "maximum": max_wait_s}
    text = "Seconds to wait for the end of the job; the header `Prefer: wait=…` means the same."
    return (Parameter("wait", schema, text, min(30, max_wait_s)),)


def _places(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        schema, example = PLACES[name]
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _parameter(described: Parameter) -> dict[str, Any]:
    shown = {"name": described.name, "in": described.place, "description": described.text, "schema": described.schema}
    return shown if described.example is None else {**shown, "example": described.example}


def _responses(described: Operation, can_be_wrong: bool, *, is_open: bool) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in described.answers.items()}
    codes = [*described.problems, *_ALWAYS, *(() if is_open else _WITH_SCOPE)]
    codes += ["invalid_request"] if can_be_wrong or described.body else []
    codes += _WITH_BODY if described.body else []
    codes = [code for code in codes if PROBLEMS[code][0] not in described.answers]
    for status in sorted({PROBLEMS[code][0] for code in codes}):
        titles = [f"{PROBLEMS[code][1]} (`{code}`)" for code in codes if PROBLEMS[code][0] == status]
        responses[str(status)] = _problem("; ".join(titles), status)
    return responses | _BY_THE_SERVER


def _answer(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": answer.text}
    if answer.headers:
        shown["headers"] = {name: {"schema": {"type": "string"}} for name in answer.headers}
    if answer.model or answer.example or answer.media != ("application/json",):
        schema = _reference(answer.model) if answer.model else {}
        example = {} if answer.example is None else {"examples": {"example": {"value": answer.example}}}
        shown["content"] = {media: {"schema": schema, **example} for media in answer.media}
    return shown


def _problem(text: str, status: int) -> dict[str, Any]:
    headers = {"headers": {"Retry-After": {"schema": {"type": "string"}}}} if status in {429, 503} else {}
    content = {"application/problem+json": {"schema": _reference(schemas.Problem)}}
    return {"description": text, **headers, "content": content}


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _TEMPLATE.format(model=model.__name__)}


#: What is refused before it reaches a route.
_BY_THE_SERVER = {
    "414": _problem("The address is longer than 4,094 bytes", 414),
    "431": _problem("The head of the request is too large", 431),
}


@functools.cache
def _models() -> dict[str, Any]:
    kinds = [each for each in vars(schemas).values() if isinstance(each, type) and issubclass(each, schemas.Answered)]
    models: list[type[BaseModel]] = [Submission, *(kind for kind in kinds if kind is not schemas.Answered)]
    _, defined = models_json_schema([(model, "validation") for model in models], ref_template=_TEMPLATE)
    shown: dict[str, Any] = defined["$defs"]
    return shown


def _bodies(bounds: Bounds) -> dict[str, Any]:
    """Bodies with the rules that intake.py checks by hand, as far as a schema can say them."""
    submission, data, retry = (dict(_models()[name]) for name in ("Submission", "JobData", "RetryWish"))
    data["properties"] = data["properties"] | {
        "projectFiles": _map(_PATH, {"type": "string"}, bounds.max_files) | {"minProperties": 1},
        "dependencies": _dependencies(),
        "steps": data["properties"]["steps"] | {"items": {"enum": list(STEPS)}, "uniqueItems": True},
        "env": _map("^[A-Za-z_][A-Za-z0-9_]{0,254}$", {"type": "string", "pattern": r"^[^\x00]*$"}, MAX_VARIABLES),
    }
    retry["properties"] = retry["properties"] | {
        "on": {"type": "array", "items": {"enum": list(RETRIED)}, "minItems": 1, "maxItems": len(RETRIED)}
    }
    submission["properties"] = submission["properties"] | {
        "type": {
            "enum": list(STEPS),
            "description": "What to do. A job of type function has other data: docs/functions.md.",
        },
        "limits": _limits(bounds.limits or {}),
        "webhook": _receivers(bounds.endpoints),
    }
    data["anyOf"] = [{"required": [name]} for name in ("projectFiles", *SOURCES)]
    data["if"] = {"properties": {"command": {"minLength": 1}}, "required": ["command", "steps"]}
    data["then"] = {"properties": {"steps": {"contains": {"const": "build"}}}}
    submission["if"] = {"properties": {"supersede": {"const": True}}, "required": ["supersede"]}
    submission["then"] = {"properties": {"data": {"properties": {"chatId": {"minLength": 1}}, "required": ["chatId"]}}}
    one = {"description": "A Submission; one that is wrong is answered so, and keeps none of the others out."}
    items = {"type": "array", "minItems": 1, "maxItems": MAX_JOBS, "items": one}
    batch = {"type": "object", "properties": {"jobs": items}, "required": ["jobs"], "additionalProperties": False}
    return {"Submission": submission, "JobData": data, "RetryWish": retry, "Batch": batch}


#: What paths.py accepts, but for its bounds in bytes.
_PATH = (
    r"^(?![A-Za-z]:)(?!(?:.*/)?(?:\.{0,2}|[Nn][Oo][Dd][Ee]_[Mm][Oo][Dd][Uu][Ll][Ee][Ss]|\.[Gg][Ii][Tt])(?:/|$))"
    r"[^\x00-\x1f\x7f-\x9f\\]{1,250}$"
)
_NAME = rf"^(?!(?:node_modules|favicon\.ico)$){npm.NAME.pattern}$"


def _map(names: str, values: Schema, most: int) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": names},
        "additionalProperties": values,
        "maxProperties": most,
    }


def _dependencies() -> Schema:
    version = rf"^(?:{npm.RANGE.pattern}|(?!.*\.(?:tgz|tar|tar\.gz)$){npm.TAG.pattern})$".replace(r"\d", "[0-9]")
    flat = _map(_NAME, {"type": "string", "maxLength": 256, "pattern": version}, MAX_PACKAGES)
    flat["propertyNames"]["maxLength"] = npm.MAX_NAME
    nested = {"type": "object", "properties": dict.fromkeys(SECTIONS, flat), "additionalProperties": False}
    return {"anyOf": [flat, nested]}


def _limits(limits: allowance.Allowance) -> Schema:
    properties = {
        name: {"type": "number" if name == "cpus" else "integer", "minimum": each.least, "maximum": each.most}
        for name, each in limits.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _receivers(names: tuple[str, ...]) -> Schema:
    one = {"enum": [*names, "none"]}
    several = {"type": "array", "items": {"enum": list(names)}} if names else {"type": "array", "maxItems": 0}
    return {"anyOf": [one, several, {"type": "null"}], "description": Submission.model_fields["webhook"].description}
