"""Webhooks: signatures against the reference library, and when a delivery is tried again."""

from __future__ import annotations

import base64
import json
import random
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks

import webhook
from errors import SignatureMismatch
from tests.test_payload import ended_job, result_body

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
NOW = 1_800_000_000


def signed(body: bytes, secrets: list[str] | None = None, now_s: float | None = None) -> dict[str, str]:
    return webhook.sign(secrets or [SECRET], "msg_1", int(time.time() if now_s is None else now_s), body)


@pytest.mark.parametrize("body", [b"{}", '{"path":"dist/日本語 ☃.js"}'.encode(), result_body(ended_job(), "\ud800\n")])
def test_reference_accepts_ours(body: bytes) -> None:
    """The Standard Webhooks reference library accepts our signatures, non-ASCII bodies included."""
    assert standardwebhooks.Webhook(SECRET).verify(body, signed(body)) == json.loads(body)


def test_we_accept_the_reference() -> None:
    """We accept what the Standard Webhooks reference library signs."""
    body, moment = '{"ä":"☃"}', datetime.fromtimestamp(NOW, UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_2", moment, body)

    headers = {"Webhook-Id": "msg_2", "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}

    webhook.verify([SECRET], headers, body.encode(), NOW)


def test_rotation() -> None:
    """While secrets change over, old and new receivers both accept, and a receiver may know several secrets."""
    headers = signed(b"{}", [SECRET, OTHER_SECRET])

    for secret in (SECRET, OTHER_SECRET):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
        webhook.verify([secret], headers, b"{}", time.time())
    webhook.verify([OTHER_SECRET, SECRET], signed(b"{}"), b"{}", time.time())


def test_new_secret() -> None:
    """A new secret signs, and no two are alike."""
    secret = webhook.new_secret()

    webhook.verify([secret], signed(b"{}", [secret]), b"{}", time.time())
    assert secret != webhook.new_secret()


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": f" {NOW}"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "\u0661" * 10},
        {"webhook-timestamp": "9" * 5_000},
        {"webhook-id": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\udcff☃"},
        {"webhook-signature": "v1"},
        {"webhook-id": "\ud800"},
    ],
)
def test_tampered_headers(change: dict[str, str]) -> None:
    """A changed, malformed or missing header is refused, whatever it holds."""
    with pytest.raises(SignatureMismatch):
        webhook.verify([SECRET], {**signed(b"{}", now_s=NOW), **change}, b"{}", NOW)


def test_tampered_body_and_version() -> None:
    """A changed body is refused, and so is another version's signature, another secret, or none to compare with."""
    headers = signed(b"{}", now_s=NOW)
    other_version = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}

    for secrets, given, body in (
        ([SECRET], headers, b"{ }"),
        ([SECRET], other_version, b"{}"),
        ([OTHER_SECRET], headers, b"{}"),
        ([], headers, b"{}"),
        ([SECRET], {}, b"{}"),
    ):
        with pytest.raises(SignatureMismatch):
            webhook.verify(secrets, given, body, NOW)


@pytest.mark.parametrize("shift_s", [-301, 301])
def test_stale(shift_s: int) -> None:
    """A signature more than five minutes old, or ahead, is refused; within them it is accepted."""
    headers = signed(b"{}", now_s=NOW)

    webhook.verify([SECRET], headers, b"{}", NOW + shift_s * 0.99)
    with pytest.raises(SignatureMismatch, match="too far"):
        webhook.verify([SECRET], headers, b"{}", NOW + shift_s)


# --- when to try again


def test_retry_delays() -> None:
    """Waits grow over three days, each spread by a fifth either way; after the ninth there is none."""
    assert [webhook.retry_delay_ms(attempt, lambda: 0.5) for attempt in range(1, 11)] == [
        5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000, None
    ]  # fmt: skip
    assert (webhook.retry_delay_ms(1, lambda: 0.0), webhook.retry_delay_ms(1, lambda: 1.0)) == (4_000, 6_000)
    chance = random.Random(1).random
    assert len({webhook.retry_delay_ms(9, chance) for _ in range(100)}) > 90
