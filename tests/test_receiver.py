"""The stand-in for a Convex site: what it takes, what it refuses, and what it takes once."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import requests

import webhook
from examples import receiver
from jobs import Endpoint
from webhook import Sender, Verdict

SECRET = webhook.new_secret()
OTHER_SECRET = webhook.new_secret()


def test_stand_in_receiver() -> None:
    """The stand-in takes a signed event once, says so for its repetition, and answers 401 to a bad signature."""
    events: list[receiver.Event] = []

    with receiver.serve(0, [SECRET], events.append) as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}", (SECRET,), {"result": "/r"})
        with contextlib.closing(Sender(endpoint)) as sender:
            notes = [sender.post(message_id, "result", b'{"a":1}').note for message_id in ("m1", "m1", "m2")]
        with contextlib.closing(Sender(replace(endpoint, secrets=(OTHER_SECRET,)))) as sender:
            forged = sender.post("m3", "result", b"{}")

    assert [event["id"] for event in events] == ["m1", "m2"]
    assert events[0] == {"id": "m1", "path": "/r", "body": {"a": 1}}
    assert ['"duplicate": true' in note for note in notes] == [False, True, False]
    assert (forged.verdict, forged.status) == (Verdict.GIVE_UP, 401)


def test_stand_in_receiver_fails() -> None:
    """An event that the stand-in could not take counts as new when it comes again."""
    events: list[receiver.Event] = []

    def fail_once(event: receiver.Event) -> None:
        events.append(event)
        if len(events) == 1:
            raise OSError

    with receiver.serve(0, [SECRET], fail_once) as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}", (SECRET,), {"result": "/r"})
        with contextlib.closing(Sender(endpoint)) as sender:
            verdicts = [sender.post("m1", "result", b"{}").verdict for _ in range(3)]

    assert verdicts == [Verdict.RETRY, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert len(events) == 2


def test_stand_in_refuses_what_is_no_webhook() -> None:
    """A signed body that is not JSON, and one that is too large, are refused."""
    with receiver.serve(0, [SECRET], print) as port, requests.Session() as session:
        endpoint = Endpoint(f"http://127.0.0.1:{port}", (SECRET,), {"result": "/r"})
        with contextlib.closing(Sender(endpoint)) as sender:
            assert sender.post("m1", "result", b"{").status == 400
        answer = session.post(endpoint.url, data=iter([b"chunked"]), timeout=5)

    assert answer.status_code == 413
