"""API keys over HTTP and by command: created, listed, revoked. A key's token is shown once, when it is made."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from bottle import request, response

import intake
from access import ALL_TENANTS, TENANT_RULE, Key, Scope, is_tenant, new_key
from api import wire
from api.answers import json_answer
from api.guard import caller
from errors import Forbidden, InvalidRequest, Mistake
from store import Store

MAX_BODY_BYTES = 16 << 10
MAX_NAME = 100
MAX_DAYS = 3_650
_DAY_MS = 86_400_000
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": _DAY_MS}


class Keys:
    """One method for each route. A key of one tenant manages the keys of that tenant alone."""

    def __init__(self, store: Store) -> None:
        """Keep the store; nothing is opened."""
        self._store = store

    def create(self) -> bytes:
        """Make a key from `tenant`, `scopes`, `name` and `expires`; the answer alone has its token."""
        wire.require_json(request.environ)
        fields = intake.read_json(wire.read_body(request.environ, MAX_BODY_BYTES))
        key, token, lifetime_ms = wanted_key({"tenant": caller().tenant, **fields})
        if not caller().sees(key.tenant):
            raise Forbidden("A key of one tenant makes keys of that tenant alone.")
        kept = self._store.add_key(key, lifetime_ms)
        response.set_header("Location", f"/api/keys/{kept.id}")
        return json_answer({**kept.to_json(), "token": token}, 201)

    def listed(self) -> bytes:
        """All keys there ever were, the oldest first, without their tokens."""
        return json_answer({"keys": [key.to_json() for key in self._store.api_keys() if caller().sees(key.tenant)]})

    def revoke(self, key_id: str) -> bytes:
        """Let a key open nothing from now on."""
        return json_answer(self._store.revoke_key(key_id, caller().tenant).to_json())


def wanted_key(fields: dict[str, Any]) -> tuple[Key, str, int]:
    """A new key as asked for, its token, and for how long it is good (ms; 0: for ever).

    Raises:
        InvalidRequest: With all mistakes.
    """
    if mistakes := [Mistake(f"#/{name}", detail) for name, detail in _mistakes(fields)]:
        raise InvalidRequest(mistakes)
    scopes = frozenset(Scope(word) for word in fields["scopes"])
    key, token = new_key(fields["tenant"], scopes, fields.get("name") or "")
    return key, token, _lifetime_ms(fields.get("expires") or "") or 0


def _mistakes(fields: dict[str, Any]) -> list[tuple[str, str]]:
    tenant, scopes, name, expires = (fields.get(each) for each in ("tenant", "scopes", "name", "expires"))
    is_list = isinstance(scopes, list) and scopes and all(isinstance(word, str) for word in scopes)
    checks = [
        ("tenant", isinstance(tenant, str) and is_tenant(tenant), f"tenant must be {TENANT_RULE}."),
        ("scopes", is_list and set(scopes or ()) <= set(Scope), f"scopes must be a list of {', '.join(Scope)}."),
        ("name", name is None or _is_name(name), f"name must be a text of at most {MAX_NAME} printable characters."),
        ("expires", expires is None or (isinstance(expires, str) and _lifetime_ms(expires) is not None),
         f"expires must be a span such as 90d, 12h or 30m, of at most {MAX_DAYS} days."),
    ]  # fmt: skip
    unknown = sorted(fields.keys() - {place for place, _, _ in checks})
    strange = [(each[:200], "There is no such field; known are tenant, scopes, name and expires.") for each in unknown]
    return [(place, detail) for place, is_right, detail in checks if not is_right] + strange


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()


def _lifetime_ms(span: str) -> int | None:
    """A span as milliseconds; 0 for "", None for what is none."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([mhd])", span)
    lifetime_ms = int(found[1]) * _UNITS_MS[found[2]] if found else None
    if lifetime_ms is None or lifetime_ms > MAX_DAYS * _DAY_MS:
        return 0 if span == "" else None
    return lifetime_ms


# --- the command line -------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `cli.py keys` takes."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; its token is printed once")
    create.add_argument("--tenant", default=ALL_TENANTS, help=f"whose key it is: {TENANT_RULE} (the default)")
    create.add_argument("--scope", required=True, help=f"one or several of {', '.join(Scope)}, separated by commas")
    create.add_argument("--name", help="what it is for")
    create.add_argument("--expires", help="after how long it opens nothing: 90d, 12h, 30m; default: never")
    create.set_defaults(keys=_create)
    actions.add_parser("list", help="all keys there ever were").set_defaults(keys=_list)
    revoke = actions.add_parser("revoke", help="let a key open nothing any more")
    revoke.add_argument("id", help="the 12 digits after cw_")
    revoke.set_defaults(keys=_revoke)


def run_command(store: Store, chosen: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Do what `add_arguments` found. Raises InvalidRequest or NotFound."""
    chosen.keys(store, chosen, say)


def _create(store: Store, chosen: argparse.Namespace, say: Callable[[str], None]) -> None:
    scopes = chosen.scope.replace(",", " ").split()
    asked = {"tenant": chosen.tenant, "scopes": scopes, "name": chosen.name, "expires": chosen.expires}
    key, token, lifetime_ms = wanted_key(asked)
    say(_line(store.add_key(key, lifetime_ms)))
    say(f"Its token is shown this once, and kept nowhere: {token}")


def _list(store: Store, chosen: argparse.Namespace, say: Callable[[str], None]) -> None:
    for key in store.api_keys():
        say(_line(key))


def _revoke(store: Store, chosen: argparse.Namespace, say: Callable[[str], None]) -> None:
    say(_line(store.revoke_key(chosen.id)))


def _line(key: Key) -> str:
    shown = key.to_json()
    moments = {"expires": "expiresAt", "last used": "lastUsedAt", "revoked": "revokedAt"}
    told = "".join(f", {word} {shown[field]}" for word, field in moments.items() if shown[field])
    name = f" ({key.name})" if key.name else ""
    return f"{key.id}{name}: tenant {key.tenant}, may {' '.join(sorted(key.scopes))}{told}"
