"""Takes in many jobs with one request: each of them gets its own answer, good or bad."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import compact
import intake
from api.answers import created, problem_document
from errors import ChefError, InvalidRequest, Mistake, StoreUnavailable
from jobs import Request
from store import Submitted
from submission import Options

MAX_JOBS = 100

Checked = tuple[Request, Options]
SubmitAll = Callable[[list[Checked]], list[Submitted | ChefError]]


def submissions(body: bytes) -> list[Any]:
    """What the body's `jobs` hold, not looked at yet. Raises InvalidRequest."""
    document = intake.read_json(body)
    listed = document.get("jobs")
    mistakes = [
        Mistake(f"#/{name[:200]}", "There is no such field here; known is jobs.") for name in document.keys() - {"jobs"}
    ]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_JOBS:
        mistakes.append(Mistake("#/jobs", f"jobs must be a list of 1 to {MAX_JOBS} submissions."))
    if mistakes:
        raise InvalidRequest(mistakes)
    return list(listed or ())


def submit(
    listed: list[Any],
    check: Callable[[dict[str, Any]], Checked],
    common: Mapping[str, str],
    identity: Callable[[str], dict[str, str]],
    submit_all: SubmitAll,
) -> list[dict[str, Any]]:
    """Take in what is right, in one step, and say what became of each, in order.

    `common` are the fields of Options that all of them share; `identity` makes of a submission's digest those that
    tell it from others.
    """
    checked = [_checked(document, check) for document in listed]
    good = [
        (wanted[0], replace(wanted[1], **common, **identity(_digest(document))))  # type: ignore[arg-type]
        for wanted, document in zip(checked, listed, strict=True)
        if not isinstance(wanted, ChefError)
    ]
    taken = iter(submit_all(good) if good else [])
    return [_result(each if isinstance(each, ChefError) else next(taken)) for each in checked]


def keyed(key: str, digest: str) -> dict[str, str]:
    """Under the batch's key: the same submission with the same key is the same job."""
    # No caller has such a key: an HTTP header holds no line break.
    return {"idempotency_key": f"{key}\n{digest}", "body_hash": digest}


def _checked(document: Any, check: Callable[[dict[str, Any]], Checked]) -> Checked | ChefError:
    if not isinstance(document, dict):
        return InvalidRequest([Mistake("#", "A submission must be a JSON object.")])
    try:
        return check(document)
    except StoreUnavailable:
        raise
    except ChefError as error:
        return error


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(compact.canonical(document)).hexdigest()


def _result(outcome: Submitted | ChefError) -> dict[str, Any]:
    if isinstance(outcome, ChefError):
        problem = problem_document(outcome)
        return {"httpStatus": problem["status"], "problem": problem}
    return {"httpStatus": 201 if outcome.created else 200, "job": created(outcome.job)}
