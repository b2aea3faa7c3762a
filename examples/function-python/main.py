"""Greets, and says how many milliseconds a span such as "2 days" has."""

import time

from pytimeparse import parse  # type: ignore[import-not-found]  # it is installed in the sandbox


def handler(event: dict[str, str], context: dict[str, str | int]) -> dict[str, str | int]:
    """The function: an event of JSON in, a value of JSON out."""
    left_ms = int(context["deadlineMs"]) - time.time_ns() // 1_000_000
    print(f"job {context['jobId']} has {left_ms} ms left")
    return {"greeting": f"Hello, {event['name']}!", "milliseconds": parse(event["after"]) * 1000}
