"""The only code that speaks to Convex: the signatures of webhooks, and one delivery by HTTP."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import math
import random
import re
import secrets as secure
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3

from errors import SignatureMismatch
from events import Endpoint
from outbound import Adapter, Deadline, cause

DEADLINE_S = 15.0
READ_BYTES = 64 << 10
UPLOAD_DEADLINE_S = 60.0
UPLOAD_PATH = "/api/storage/upload"
#: By this Content-Type the receiver tells our files from the app's own (convex/src/files.ts).
FILE_TYPE = "application/vnd.chef-workers.file"
RETRY_AFTER_CAP_S = 86_400.0
#: Waits after the first, second, … failed try; after the last one a delivery is given up, three days on.
RETRY_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Refusals that may pass: not deployed yet, too slow, conflict, too early, too many.
PASSING_REFUSALS = frozenset({404, 408, 409, 425, 429})


def new_secret() -> str:
    """A fresh signing secret: whsec_ and the base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secure.token_bytes(32)).decode()


def sign(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The Standard Webhooks headers for `body`; one signature per secret, so that receivers can change over in peace.

    `message_id` stays the same over all tries of a delivery, `timestamp_s` (Unix seconds) is the moment of this one.
    """
    content = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{_signature(secret, content)}" for secret in secrets),
    }


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = 300.0
) -> None:
    """Return if one of `secrets` signed this, at most `tolerance_s` before or after `now_s` (Unix seconds).

    Raises:
        SignatureMismatch: Anything else, malformed headers included.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, moment = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    if not message_id or not re.fullmatch(r"[0-9]{1,12}", moment):
        raise SignatureMismatch("webhook-id or webhook-timestamp is missing or malformed")
    if abs(now_s - int(moment)) > tolerance_s:
        raise SignatureMismatch("webhook-timestamp is too far from now")
    content = f"{message_id}.{moment}.".encode("utf-8", "replace") + body
    expected = [f"v1,{_signature(secret, content)}".encode() for secret in secrets]
    given = [word.encode("utf-8", "replace") for word in found.get("webhook-signature", "").split(" ")]
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise SignatureMismatch("no signature fits")


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


class Verdict(StrEnum):
    """What one try of a delivery means for the next."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    GIVE_UP = "give_up"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try came to. `status` is 0 without an answer; `retry_after_s` the least wait the receiver asks for."""

    verdict: Verdict
    status: int
    retry_after_s: float
    note: str
    duration_ms: int


def retry_delay_ms(attempt: int, chance: Callable[[], float] = random.random) -> int | None:
    """Milliseconds to wait after the failed try number `attempt` (from 1), spread by ±20 %; None: give up.

    `chance` returns numbers from 0 to 1.
    """
    if attempt > len(RETRY_DELAYS_S):
        return None
    return int(RETRY_DELAYS_S[max(attempt, 1) - 1] * 1_000 * (0.8 + 0.4 * chance()))


class Sender:
    """Posts signed bodies to one endpoint. Threads may share it; each has a keep-alive connection of its own."""

    def __init__(self, endpoint: Endpoint, *, deadline_s: float = DEADLINE_S) -> None:
        """`deadline_s` bounds one try from connecting to the answer's last byte; looking up a name comes on top."""
        self._endpoint = endpoint
        self._deadline_s = deadline_s
        self._own = threading.local()

    def post(self, message_id: str, path: str, body: bytes, trace: Mapping[str, str] | None = None) -> Outcome:
        """One try. Redirects are not followed, proxies and cookies not used; an answer is read up to 64 KB.

        `path` names one of the endpoint's paths; `trace` holds the headers of a trace that this belongs to.

        Never raises for what the network or the receiver does: that is the outcome.
        """
        return self.ask(message_id, path, body, trace)[0]

    def ask(
        self, message_id: str, path: str, body: bytes, trace: Mapping[str, str] | None = None
    ) -> tuple[Outcome, bytes]:
        """post(), and what the answer holds: its first 64 KB."""
        signature = sign(self._endpoint.secrets, message_id, int(time.time()), body)
        headers = {"Content-Type": "application/json", **signature, **(trace or {})}
        return self._exchange(self._endpoint.url + self._endpoint.paths[path], headers, body, self._deadline_s)

    def upload(self, url: str, content: BinaryIO, size: int, sha256: str) -> tuple[Outcome, bytes]:
        """One try to put a file where an upload URL of Convex leads; the answer is as in ask().

        Only the URL's path and token count: the file goes to the deployment that the settings name, so no answer can
        send it anywhere else, and a deployment may know itself under a name that is of no use here.

        Raises:
            ValueError: `url` is no upload URL of Convex.
        """
        place = urlsplit(url)
        if not place.path.endswith(UPLOAD_PATH) or not place.query:
            raise ValueError("this is no upload URL of Convex")
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        headers = {"Content-Type": FILE_TYPE, "Digest": f"sha-256={digest}"}
        target = f"{self._endpoint.storage}{UPLOAD_PATH}?{place.query}"
        return self._exchange(target, headers, content if size else b"", UPLOAD_DEADLINE_S)

    def _exchange(
        self, url: str, headers: dict[str, str], body: BinaryIO | bytes, deadline_s: float
    ) -> tuple[Outcome, bytes]:
        started = time.monotonic()
        content = b""
        with Deadline(deadline_s, self._endpoint.private) as deadline:
            try:
                answer = self._send(url, {"User-Agent": "chef-workers", **headers}, body, deadline_s)
                deadline.check()
                # The status is the answer: what becomes of the rest must not make a receiver see a job twice.
                status, content = answer.status_code, _content(answer)
                note = f"HTTP {status} {_first_words(content)}".strip()
                retry_after_s = _retry_after_s(answer.headers.get("Retry-After", ""), time.time())
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
                late = f"no answer within {deadline_s:g} s"
                status, retry_after_s, note = 0, 0.0, late if deadline.passed else f"no answer: {cause(error)}"
        duration_ms = int((time.monotonic() - started) * 1_000)
        return Outcome(_verdict(status), status, retry_after_s, note, duration_ms), content

    def close(self) -> None:
        """Close the calling thread's connection; those of other threads end with their threads."""
        if adapter := self._own.__dict__.pop("adapter", None):
            adapter.close()

    def _send(self, url: str, headers: dict[str, str], body: BinaryIO | bytes, deadline_s: float) -> requests.Response:
        if not hasattr(self._own, "adapter"):
            self._own.adapter = Adapter(self._endpoint.ca_bundle)
        request = requests.Request("POST", url, headers, data=body).prepare()
        adapter: Adapter = self._own.adapter
        trust = self._endpoint.ca_bundle or True
        return adapter.send(request, stream=True, timeout=deadline_s, verify=trust)


def _content(answer: requests.Response) -> bytes:
    """The beginning of the answer's body. A body beyond 64 KB, or late, costs the connection."""
    content, ended = b"", False
    with suppress(urllib3.exceptions.HTTPError, OSError):
        while len(content) < READ_BYTES and not ended:
            block = answer.raw.read1(READ_BYTES - len(content), decode_content=False)
            content += block or b""
            ended = not block
    if not ended:
        answer.raw.close()
    answer.raw.release_conn()
    return content


def _first_words(content: bytes) -> str:
    """What an answer's body says, for the note."""
    words = " ".join(content[:400].decode("utf-8", "replace").split())
    return "".join(each for each in words[:200] if each.isprintable())


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    if status == 410:
        return Verdict.DISABLED
    refused = 400 <= status < 500 and status not in PASSING_REFUSALS
    return Verdict.GIVE_UP if refused else Verdict.RETRY


def _retry_after_s(value: str, now_s: float) -> float:
    """Seconds from a Retry-After header, a number or a date; 0 for none or nonsense, at most a day."""
    seconds = float(value) if re.fullmatch(r"[0-9]{1,10}", value) else 0.0
    with suppress(ValueError, OverflowError):
        seconds = math.ceil(email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    return min(max(0.0, seconds), RETRY_AFTER_CAP_S)
