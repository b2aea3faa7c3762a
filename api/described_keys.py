"""The part of the description that tells of API keys."""

from __future__ import annotations

from typing import Any

from access import Scope
from api.parameters import MOMENT, Answer, Operation

_KEY: dict[str, Any] = {
    "id": "9d98b668b513",
    "name": "ci",
    "tenant": "team-a",
    "scopes": ["read", "submit"],
    "createdAt": MOMENT,
    "expiresAt": None,
    "lastUsedAt": None,
    "revokedAt": None,
}
_WISH = {
    "type": "object",
    "required": ["scopes"],
    "additionalProperties": False,
    "properties": {
        "tenant": {"type": "string", "pattern": r"^([a-z0-9][a-z0-9_-]{0,31}|\*)$"},
        "scopes": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(Scope)}},
        "name": {"type": "string", "maxLength": 100},
        "expires": {"type": "string", "pattern": "^[1-9][0-9]{0,6}[mhd]$"},
    },
}

KEYS: dict[tuple[str, str], Operation] = {
    ("GET", "/api/keys"): Operation("Keys", {200: Answer("Them.", example={"keys": [_KEY]})}),
    ("POST", "/api/keys"): Operation(
        "Keys",
        {201: Answer("The key, with its token.", example=_KEY | {"token": "cw_9d98b668b513_…"}, headers=("Location",))},
        body=_WISH,
        body_example={"tenant": "team-a", "scopes": ["read", "submit"], "name": "ci", "expires": "90d"},
        needs_body=True,
    ),
    ("DELETE", "/api/keys/<key_id>"): Operation(
        "Keys",
        {200: Answer("The key, revoked.", example=_KEY | {"revokedAt": MOMENT})},
        problems=("not_found",),
    ),
}
