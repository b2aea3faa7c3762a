"""What a function's bodies may hold, and how each mistake in them is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
import function_intake
import intake
from errors import InvalidRequest
from intake import Bounds
from jobs import Call, JobType, Package, Request
from submission import Options

BOUNDS = Bounds(max_files=5, max_project_bytes=100, limits=config.load({}).allowance, endpoints=("other",))
DATA = {"runtime": "node", "files": {"index.mjs": "x"}, "handler": "index.handler"}


def taken(data: dict[str, Any], **outside: Any) -> tuple[Request, Options]:
    return intake.parse(json.dumps({"type": "function", "data": data, **outside}).encode(), BOUNDS)


def mistakes(data: Any, **outside: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        taken(data, **outside)
    return {mistake.pointer: mistake.detail for mistake in caught.value.mistakes}


def test_smallest_call() -> None:
    """Runtime, files and handler are enough; the event is null then."""
    request, options = taken(DATA)

    assert request == Request(
        JobType.FUNCTION, {"index.mjs": "x"}, call=Call("node", "index.mjs", "handler", event=None)
    )
    assert options == Options()


def test_everything_is_taken_over() -> None:
    """Every field arrives under its inner name, options and limits as with any other job."""
    event = {"a": [1, None, "ü", 1e300]}
    data = {**DATA, "event": event, "chatId": "c", "env": {"A": "1"}, "installScripts": True, "timeoutMs": 2_500}
    request, options = taken(
        {**data, "dependencies": {"ms": "2.1.3"}}, priority=9, tags=["t"], limits={"memoryBytes": 128 << 20}
    )

    assert request.call == Call("node", "index.mjs", "handler", event)
    assert (request.chat_id, request.env, request.install_scripts, request.priority) == ("c", {"A": "1"}, True, 9)
    assert request.dependencies == {"dependencies": {"ms": "2.1.3"}}
    assert request.limits == {"memory_bytes": 128 << 20, "command_s": 2.5}
    assert options.tags == ("t",)
    assert Request.from_bytes(request.to_bytes()) == request


def test_bytes_among_the_files() -> None:
    """A file that is no text comes in base64, as in any project."""
    files = {"index.mjs": "x", "model.bin": {"encoding": "base64", "content": "/wA="}}

    request = taken({**DATA, "files": files})[0]

    assert (request.files, request.binary) == ({"index.mjs": "x"}, {"model.bin": "/wA="})


def test_code_beside_the_body() -> None:
    """A function's code is part of its body; a project in a part of its own is refused."""
    with pytest.raises(InvalidRequest) as caught:
        intake.parse(json.dumps({"type": "function", "data": DATA}).encode(), BOUNDS, attached=True)

    assert [mistake.pointer for mistake in caught.value.mistakes] == ["#/data/files"]


@pytest.mark.parametrize(
    ("given", "specifier"),
    [("2.32.3", "==2.32.3"), ("*", ""), ("", ""), (">=1, <2", ">=1,<2"), ("~=1.4", "~=1.4"), ("1.*", "==1.*")],
)
def test_versions_of_python_packages(given: str, specifier: str) -> None:
    """A bare version is that very one, as in a package.json; any other is a specifier."""
    data = {**DATA, "runtime": "python", "files": {"index.py": ""}, "dependencies": {"Some.Package[x]": given}}

    assert taken(data)[0].dependencies == {"dependencies": {"Some.Package[x]": specifier}}


@pytest.mark.parametrize(
    ("handler", "runtime", "files", "file"),
    [
        ("index.handler", "node", ["index.ts", "index.js"], "index.js"),
        ("src/a.b.default", "node", ["src/a.b.mjs"], "src/a.b.mjs"),
        ("index.mjs.f", "node", ["index.mjs", "index.mjs.js"], "index.mjs"),
        ("my-app/main.handler", "python", ["my-app/main.py"], "my-app/main.py"),
        ("index.$f", "node", ["index.cts"], "index.cts"),
    ],
)
def test_handlers(handler: str, runtime: str, files: list[str], file: str) -> None:
    """A handler is a file, with its ending or without, and an export."""
    call = taken({"runtime": runtime, "files": dict.fromkeys(files, ""), "handler": handler})[0].call

    assert call is not None
    assert (call.file, call.export) == (file, handler.rpartition(".")[2])


def test_every_mistake_at_once() -> None:
    """All mistakes are told, each with its place and its rule."""
    found = mistakes(
        {
            "runtime": "node",
            "files": {"../a.mjs": "", "b.mjs": 1, "big.txt": "x" * 101},
            "handler": "index.handler",
            "timeoutMs": 10,
            "env": {"1A": ""},
            "dependencies": {"ms": "git+ssh://x"},
            "event": "x" * (1 << 20),
            "projectFiles": {},
        },
        limits={"cpus": 1},
        webhook="nobody",
    )

    assert set(found) == {
        "#/data/files/..~1a.mjs", "#/data/files/b.mjs", "#/data/files", "#/data/handler", "#/data/timeoutMs",
        "#/data/env/1A", "#/data/dependencies/ms", "#/data/event", "#/data/projectFiles",
    }  # fmt: skip
    assert "index.mjs or index.js" in found["#/data/handler"]
    assert "1,000" in found["#/data/timeoutMs"]
    assert "1,048,576" in found["#/data/event"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("runtime", "deno"), ("runtime", []), ("runtime", None), ("files", {}), ("files", []), ("handler", ""),
        ("handler", "index"), ("handler", "a b.c"), ("handler", "x" * 301 + ".y"), ("handler", 1), ("timeoutMs", "1"),
        ("timeoutMs", True), ("timeoutMs", 1000.5), ("dependencies", []), ("chatId", 7), ("installScripts", 1),
    ],
)  # fmt: skip
def test_wrong_fields(field: str, value: Any) -> None:
    """A field of another kind is named."""
    assert f"#/data/{field}" in mistakes({**DATA, field: value})


@pytest.mark.parametrize("packages", [{"-r x": "1"}, {"a": "git+https://x"}, {"a": 1}, {"a": ">=1;"}, {"a b": ""}])
def test_python_packages(packages: dict[str, Any]) -> None:
    """Python packages are names and versions; no options, no addresses."""
    data = {"runtime": "python", "files": {"a.py": ""}, "handler": "a.f", "dependencies": packages}

    assert [pointer.rpartition("/")[0] for pointer in mistakes(data)] == ["#/data/dependencies"]


def test_version_to_keep() -> None:
    """A version has code and limits; an event belongs to a call, and mistakes point into the body as it was sent."""
    body = {**DATA, "timeoutMs": 2000, "limits": {"cpus": 0.5}}

    request = function_intake.version(json.dumps(body).encode(), BOUNDS, "days")

    assert request.call == Call("node", "index.mjs", "handler", name="days")
    assert request.limits == {"cpus": 0.5, "command_s": 2.0}
    with pytest.raises(InvalidRequest) as caught:
        function_intake.version(json.dumps({**body, "event": 1, "priority": 2}).encode(), BOUNDS, "days")
    assert {mistake.pointer for mistake in caught.value.mistakes} == {"#/event", "#/priority"}


def test_call_of_a_version() -> None:
    """A call takes over what the version has; its own options and limits come on top."""
    call = Call("node", "index.mjs", "handler", name="days", version=3, package=Package("job-x", 1, "ab", 5))
    kept = Request(JobType.FUNCTION, {}, env={"A": "1"}, limits={"cpus": 0.5, "command_s": 2.0}, call=call)
    body = {"event": [1], "chatId": "c", "priority": 7, "limits": {"cpus": 1}, "webhook": "other"}

    request, options = function_intake.call_of(kept, call, json.dumps(body).encode(), BOUNDS)

    limits = {"cpus": 1, "command_s": 2.0}
    assert request == replace(kept, call=call.with_event([1]), chat_id="c", priority=7, limits=limits)
    assert options.webhook == ("other",)
    assert Request.from_bytes(request.to_bytes()) == request
    assert function_intake.call_of(kept, call, b"", BOUNDS)[0] == kept


def test_call_with_code_of_its_own() -> None:
    """A call of a version brings no code."""
    call = Call("node", "index.mjs", "handler", name="days", version=3, package=Package("job-x", 1, "ab", 5))

    with pytest.raises(InvalidRequest) as caught:
        function_intake.call_of(
            Request(JobType.FUNCTION, {}, call=call), call, json.dumps({"files": {"a": ""}}).encode(), BOUNDS
        )

    assert [mistake.pointer for mistake in caught.value.mistakes] == ["#/files"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["node", "python", "a.f"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*DATA, "event", "timeoutMs", "env", "dependencies", "installScripts", "chatId", "other"])


@given(data=st.dictionaries(FIELDS, JSON), outside=st.dictionaries(st.sampled_from(["limits", "priority"]), JSON))
def test_anything(data: dict[str, Any], outside: dict[str, Any]) -> None:
    """Whatever is sent is taken or refused with its mistakes; nothing else happens."""
    try:
        request, _ = taken(data, **outside)
    except InvalidRequest:
        return
    assert request.call is not None
    assert Request.from_bytes(request.to_bytes()) == request
