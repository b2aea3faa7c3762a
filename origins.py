"""Where a job's files come from beside its own body: the sources that a submission may name, of which it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from errors import Mistake
from tree import Tree


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tree is that `projectFiles` are put into: the field that names it, and what it says."""

    field: str
    value: str = ""

    @property
    def pointer(self) -> str:
        """To the field in the body."""
        return f"#/data/{self.field}"


#: A file beside the job's JSON, in a multipart body.
ATTACHED = Source("project")
#: The fields that name a source.
SOURCES = ("uploadId", "snapshotUrl", "fromJob")
#: Gets the tree of a source. Raises InvalidRequest, pointing to it.
Bring = Callable[[Source], Tree]


def named(values: Iterator[str], attached: bool) -> Source | None:
    """The source of a submission without mistakes(); `values` are those of SOURCES, "" for none."""
    if attached:
        return ATTACHED
    return next((Source(name, value) for name, value in zip(SOURCES, values, strict=True) if value), None)


def mistakes(data: dict[str, Any], rule: str, attached: bool) -> Iterator[Mistake]:
    """What is wrong with where the files of a job come from. `rule` says what projectFiles must be."""
    given = [name for name in SOURCES if name in data]
    if attached and given:
        yield Mistake(f"#/data/{given[0]}", f"The part {ATTACHED.field} is this job's project; {given[0]} is another.")
    elif len(given) > 1:
        yield Mistake(f"#/data/{given[1]}", f"A job has one source: leave out all but one of {', '.join(given)}.")
    elif not given and not attached:
        yield from _nothing(data, rule)


def _nothing(data: dict[str, Any], rule: str) -> Iterator[Mistake]:
    """The mistake of a job without files; a `projectFiles` of another kind is reported elsewhere."""
    state = "missing" if "projectFiles" not in data else "empty" if data["projectFiles"] == {} else ""
    if state:
        detail = f"projectFiles is {state}: it must be {rule}; or name one of {', '.join(SOURCES)}."
        yield Mistake("#/data/projectFiles", detail)
