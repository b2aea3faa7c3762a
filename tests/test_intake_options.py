"""How a submission says when, how often and with which notes its job is to run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import InvalidRequest
from intake import Bounds, parse
from jobs import Reason
from submission import Options, RetryRule


def options_of(**fields: Any) -> Options:
    """The options of a submission with these fields beside its data."""
    return parse(body_of(**fields), Bounds())[1]


def body_of(**fields: Any) -> bytes:
    return json.dumps({"type": "test", "data": {"projectFiles": {"a": "b"}, "chatId": "c"}, **fields}).encode()


def test_nothing_asked_for() -> None:
    """Without any option a job is taken in at once, for good, and is its own."""
    assert options_of() == Options()


def test_whole_numbers_with_a_fraction_of_nothing() -> None:
    """JSON has one kind of number, so 2000.0 is 2000, as some clients write it."""
    assert options_of(delayMs=2_000.0, retry={"attempts": 2.0, "on": ["oom"]}) == options_of(
        delayMs=2_000, retry={"attempts": 2, "on": ["oom"]}
    )


def test_everything_asked_for() -> None:
    """Each option arrives with its unit."""
    wish = {"attempts": 3, "on": ["tests_failed", "oom"], "delayMs": 50, "backoff": "fixed"}

    options = options_of(
        runAt="2026-12-01T09:00:00+01:00",
        delayMs=2_000,
        expiresIn=60,
        supersede=True,
        tags=["nightly", "team:a", "nightly"],
        metadata={"commit": "abc", "n": [1, None]},
        retry=wish,
    )

    assert options == Options(
        run_at_ms=1_796_112_000_000,
        delay_ms=2_000,
        expires_in_ms=60_000,
        supersede=True,
        tags=("nightly", "team:a"),
        metadata={"commit": "abc", "n": [1, None]},
        retry=RetryRule(3, (Reason.TESTS_FAILED, Reason.OUT_OF_MEMORY), 50, "fixed"),
    )


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("runAt", 1_796_112_000, "#/runAt"),
        ("runAt", "2026-12-01T09:00:00", "#/runAt"),
        ("runAt", "tomorrow", "#/runAt"),
        ("delayMs", -1, "#/delayMs"),
        ("delayMs", 31 * 86_400_000, "#/delayMs"),
        ("delayMs", "5", "#/delayMs"),
        ("delayMs", 1.5, "#/delayMs"),
        ("expiresIn", True, "#/expiresIn"),
        ("supersede", "yes", "#/supersede"),
        ("tags", "nightly", "#/tags"),
        ("tags", ["with space"], "#/tags"),
        ("tags", ["x" * 65], "#/tags"),
        ("tags", [f"t{n}" for n in range(21)], "#/tags"),
        ("metadata", [], "#/metadata"),
        ("metadata", {"a": "x" * 4_096}, "#/metadata"),
        ("retry", {"on": ["oom"]}, "#/retry/attempts"),
        ("retry", {"attempts": 0, "on": ["oom"]}, "#/retry/attempts"),
        ("retry", {"attempts": 11, "on": ["oom"]}, "#/retry/attempts"),
        ("retry", {"attempts": 2, "on": []}, "#/retry/on"),
        ("retry", {"attempts": 2, "on": ["timeout"]}, "#/retry/on"),
        ("retry", {"attempts": 2, "on": [1]}, "#/retry/on"),
        ("retry", {"attempts": 2, "on": ["oom"], "backoff": "none"}, "#/retry/backoff"),
        ("retry", {"attempts": 2, "on": ["oom"], "times": 3}, "#/retry/times"),
        ("retry", 3, "#/retry"),
    ],
)
def test_what_is_wrong_is_named(field: str, value: Any, pointer: str) -> None:
    """A mistake in an option is named by its place, in a sentence that says what is allowed."""
    with pytest.raises(InvalidRequest) as caught:
        options_of(**{field: value})

    assert [mistake.pointer for mistake in caught.value.mistakes] == [pointer]
    assert caught.value.mistakes[0].detail.endswith(".")


def test_superseding_needs_a_chat() -> None:
    """Without a chat there is nothing that a job could supersede."""
    body = json.dumps({"type": "build", "supersede": True, "data": {"projectFiles": {"a": "b"}}}).encode()

    with pytest.raises(InvalidRequest, match="chatId"):
        parse(body, Bounds())


@pytest.mark.parametrize(
    ("wanted", "names"),
    [("a", ("a",)), (["b", "a", "b"], ("b", "a")), ("none", ()), (["none"], ()), ([], ()), (None, None)],
)
def test_receivers(wanted: object, names: tuple[str, ...] | None) -> None:
    """A submission names the endpoints that are told about it, none of them, or leaves it to the settings."""
    options = parse(body_of(webhook=wanted), Bounds(endpoints=("a", "b")))[1]

    assert options.webhook == names


@pytest.mark.parametrize("wanted", ["c", ["a", "c"], ["a", "none"], "https://example.com", "", 1, {"url": "x"}, [1]])
def test_unknown_receivers(wanted: object) -> None:
    """Receivers are chosen by name alone: an unknown name, or an address, is a mistake."""
    with pytest.raises(InvalidRequest) as caught:
        parse(body_of(webhook=wanted), Bounds(endpoints=("a", "b")))

    assert [mistake.pointer for mistake in caught.value.mistakes] == ["#/webhook"]


def test_keeping_the_sandbox() -> None:
    """A job may have its sandbox kept where the service keeps any; elsewhere the field is named."""
    request, _ = parse(body_of(keepSandbox=True), Bounds(keeps_sandboxes=True))
    assert request.keep_sandbox

    with pytest.raises(InvalidRequest) as refused:
        parse(body_of(keepSandbox=True), Bounds())
    assert [mistake.pointer for mistake in refused.value.mistakes] == ["#/keepSandbox"]
