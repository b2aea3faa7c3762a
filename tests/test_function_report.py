"""What a function's report may hold: a value or an error comes out of it, or the reason why it cannot be used."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from executor.functions import fault
from executor.reports import ReportInvalid, read
from executor.reports.function import KINDS, MAX_DEPTH, MAX_VALUE_BYTES, ROOM
from jobs import Reason

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def report(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def nested(depth: int) -> bytes:
    return b'{"durationMs":1,"value":' + b"[" * depth + b"]" * depth + b"}"


@given(JSON, st.floats(0, 1e6))
def test_value(value: Any, duration_ms: float) -> None:
    """Any JSON value comes out as it went in."""
    found = read("function", report(value=value, durationMs=duration_ms))

    assert found["value"] == value
    assert found["durationMs"] == pytest.approx(duration_ms, abs=0.006)
    assert fault({"function": found}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_error(kind: str) -> None:
    """An error has its kind, type, message and stack, as paths of the project."""
    error = {"kind": kind, "type": "TypeError", "message": "no", "stack": "at f (file:///work/project/index.mjs:1:2)"}

    found = read("function", report(error=error, durationMs=2.519))

    assert found == {"durationMs": 2.52, "error": {**error, "stack": "at f (index.mjs:1:2)"}}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"), (b"[]", "neither"), (b"{}", "neither"), (report(value=1, error={}), "neither"),
        (b'{"value":NaN}', "NaN"), (b'{"value":-Infinity}', "Infinity"), (b'{"value":1e999}', "too large"),
        (b'{"value":"\xff"}', "not JSON"), (b"\xef\xbb\xbf{}", "not JSON"), (nested(20_000), "not JSON"),
        (b'{"value":' + b"9" * 5000 + b"}", "not JSON"),
    ],
)  # fmt: skip
def test_unusable(data: bytes, reason: str) -> None:
    """A report that is none is refused, and says why; the job ends with that."""
    with pytest.raises(ReportInvalid, match=reason) as caught:
        read("function", data)

    found = fault({"reportInvalid": [{"tool": "function", "reason": str(caught.value)}]})
    assert found is not None
    assert found[0] is Reason.RESULT_INVALID


def test_depth() -> None:
    """A value may be nested a hundred levels deep: whatever reads it later has a stack of its own."""
    assert "value" in read("function", nested(MAX_DEPTH - 1))

    deeper = read("function", nested(MAX_DEPTH + 1))
    assert (deeper["error"]["kind"], "value" in deeper) == ("value", False)


def test_size() -> None:
    """A report that is larger than any value may be is not even read."""
    found = read("function", b" " * (MAX_VALUE_BYTES + ROOM + 1))

    assert fault({"function": found}) == (Reason.RESULT_TOO_LARGE, "the value has more than 1,048,576 bytes as JSON")


def test_long_texts_are_cut() -> None:
    """An error is bounded, whatever it says."""
    error = {"kind": "thrown", "type": "T" * 9_000, "message": "m" * 9_000, "stack": "s" * 20_000}

    found = read("function", report(error=error))["error"]

    assert [len(found[name]) for name in ("type", "message", "stack")] == [200, 2_000, 8_000]


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"error":null}')
@example(b'{"error":{"kind":[],"type":{},"message":1},"durationMs":"x"}')
@example(b'{"value":1,"durationMs":1e308}')
@example(b'{"value":1,"durationMs":-1}')
def test_anything(data: bytes) -> None:
    """Whatever is written there becomes a value, an error, or a refusal; it can always be stored and sent."""
    try:
        found = read("function", data)
    except ReportInvalid:
        return
    json.dumps(found, allow_nan=False)
    assert math.isfinite(found["durationMs"])
    assert ("value" in found) != ("error" in found)
    if "error" in found:
        assert fault({"function": found}) is not None


@given(st.dictionaries(st.sampled_from(["kind", "type", "message", "stack", "other"]), JSON), JSON)
def test_any_error(error: dict[str, Any], duration: Any) -> None:
    """An error of any shape has the four texts, and leads to a reason."""
    found = read("function", report(error=error, durationMs=duration))

    assert set(found["error"]) == {"kind", "type", "message", "stack"}
    assert all(isinstance(text, str) for text in found["error"].values())
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert fault({"function": found}) is not None


def test_nothing_written() -> None:
    """Without a report the function has ended its process."""
    found = fault({"reportInvalid": [{"tool": "function", "reason": "it was not written"}]})

    assert found == (Reason.FUNCTION_EXITED, "the function ended its process before it returned")
