"""Reads the body of a submission: a checked jobs.Request, or every mistake in it named at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

import allowance
import function_intake
import origins
import steps
from errors import InvalidRequest, Mistake
from form import (
    Bounds,
    JobData,
    Submission,
    dependency_mistakes,
    env_mistakes,
    field_mistakes,
    listed,
    map_of,
    option_mistakes,
    options_of,
    read_json,
    refused,
    require_few_fields,
    sections,
)
from jobs import JobType, Request
from origins import Bring
from paths import glob_fault
from submission import Options
from tree import Tree, file_mistakes

__all__ = ["Bounds", "check", "parse", "read_json"]


def parse(body: bytes, bounds: Bounds, bring: Bring | None = None, attached: bool = False) -> tuple[Request, Options]:
    """Read and check one submission: what to run, and how to take it in.

    `bring` is asked for the tree of a source once all else is right; `attached`: a project comes with the body.

    Raises:
        InvalidRequest: With all mistakes; beyond the first 50 they are only counted. No mistake quotes a value.
    """
    return check(read_json(body), bounds, bring, attached)


def check(
    document: dict[str, Any], bounds: Bounds, bring: Bring | None = None, attached: bool = False
) -> tuple[Request, Options]:
    """What parse does, with JSON that is read already."""
    require_few_fields(document)
    if document.get("type") == JobType.FUNCTION:
        return function_intake.parse(document, bounds, attached)
    mistakes: list[Mistake] = []
    try:
        submission = Submission.model_validate(document)
    except ValidationError as error:
        mistakes += field_mistakes(error)
    else:
        mistakes += option_mistakes(submission, bounds)
        mistakes += allowance.mistakes(submission.limits, bounds.limits or {})
        mistakes += _glob_mistakes(submission.data.artifacts)
    data = document.get("data")
    if isinstance(data, dict):
        mistakes += origins.mistakes(data, str(JobData.model_fields["project_files"].description), attached)
        mistakes += file_mistakes("#/data/projectFiles", map_of(data, "projectFiles"), bounds.room)
        mistakes += dependency_mistakes(map_of(data, "dependencies"))
        mistakes += env_mistakes(map_of(data, "env"))
        mistakes += steps.mistakes(data)
    if mistakes:
        raise InvalidRequest(listed(mistakes))
    return _request(submission, _tree(submission.data, bounds, bring, attached)), options_of(submission)


def _request(submission: Submission, tree: Tree) -> Request:
    data = submission.data
    return Request(
        type=submission.type,
        priority=submission.priority,
        files=tree.files,
        binary=tree.binary,
        chat_id=data.chat_id,
        dependencies=tree.dependencies,
        artifacts=tuple(data.artifacts),
        command=data.command,
        test_command=data.test_command,
        env=data.env,
        install_scripts=data.install_scripts,
        limits=allowance.granted(submission.limits),
        use_cache=submission.cache == "on",
        keep_sandbox=submission.keep_sandbox,
        steps=tuple(JobType(each) for each in data.steps),
        on_failure=data.on_failure,
        fail_on=data.fail_on,
        language=data.language,
    )


# --- files ------------------------------------------------------------------------------------------------------------


def _tree(data: JobData, bounds: Bounds, bring: Bring | None, attached: bool) -> Tree:
    """The project's files: those of the source with those of the body put in. Raises InvalidRequest."""
    source = origins.named(iter((data.upload_id, data.snapshot_url, data.from_job)), attached)
    named = sections(data.dependencies) if data.dependencies else ()
    packages = {name: packages for name, _, packages in named if packages}
    own = Tree.from_json(data.project_files, packages)
    if source is None:
        return own
    if bring is None:
        raise refused("Nothing can be brought from elsewhere here.", source.pointer)
    whole = own.over(bring(source))
    if mistakes := list(whole.mistakes(source.pointer, bounds.room)):
        raise InvalidRequest(listed(mistakes))
    return whole


def _glob_mistakes(globs: list[str]) -> Iterator[Mistake]:
    for number, glob in enumerate(globs):
        if fault := glob_fault(glob):
            yield Mistake(f"#/data/artifacts/{number}", f"The glob {fault}.")
