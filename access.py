"""Who may do what: API keys with their scopes and tenants, and the callers that they make."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from jobs import iso

#: The tenant of keys that see everybody's jobs. What they submit belongs to no tenant.
ALL_TENANTS = "*"
TENANT_RULE = "1 to 32 small letters, digits, - and _, beginning with a letter or digit; or * for all tenants"
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}|\*")
_TOKEN = re.compile(r"cw_([0-9a-f]{12})_([0-9a-f]{64})")
_TOKEN_CHARS = 3 + 12 + 1 + 64


class Scope(StrEnum):
    """What a key may be good for. `admin` includes the others."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key_id` is "" for whoever comes without a key."""

    tenant: str = ""
    scopes: frozenset[Scope] = frozenset()
    key_id: str = ""

    @property
    def sees_all(self) -> bool:
        """True if the caller belongs to no single tenant."""
        return self.tenant == ALL_TENANTS

    @property
    def owner(self) -> str:
        """Whose the jobs are that this caller submits."""
        return "" if self.sees_all else self.tenant

    def may(self, scope: Scope) -> bool:
        """Whether the caller's scopes hold this one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, tenant: str) -> bool:
        """Whether what belongs to `tenant` exists for this caller. For one without any scope nothing does."""
        return bool(self.scopes) and (self.sees_all or tenant == self.tenant)


#: Whoever asks while the service has no keys, and can be reached from this machine alone.
ANYBODY = Caller(ALL_TENANTS, frozenset(Scope))
#: Whoever asks without a key while there are keys.
STRANGER = Caller()


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret part. Moments are Unix milliseconds of Redis' clock; 0 means never or not yet.

    `digest` is the SHA-256 of the secret part. A slow hash would add nothing: it makes guessing dear where people
    choose passwords, and nobody guesses 256 random bits, while every request would pay for it.
    """

    id: str
    tenant: str
    scopes: frozenset[Scope]
    digest: str
    name: str = ""
    created_ms: int = 0
    expires_ms: int = 0
    last_used_ms: int = 0
    revoked_ms: int = 0

    def opens(self, digest: str, now_ms: int) -> bool:
        """Whether a token of this digest opens anything now. Takes the same time wherever the digests differ."""
        fits = hmac.compare_digest(self.digest, digest)
        return fits and not self.revoked_ms and (not self.expires_ms or now_ms < self.expires_ms)

    @property
    def caller(self) -> Caller:
        """Who asks with this key."""
        return Caller(self.tenant, self.scopes, self.id)

    def to_json(self) -> dict[str, Any]:
        """As lists show it: never anything of the secret."""
        return {
            "id": self.id,
            "name": self.name or None,
            "tenant": self.tenant,
            "scopes": sorted(self.scopes),
            "createdAt": iso(self.created_ms),
            "expiresAt": iso(self.expires_ms),
            "lastUsedAt": iso(self.last_used_ms),
            "revokedAt": iso(self.revoked_ms),
        }


@dataclass(frozen=True, slots=True)
class Conditions:
    """On what conditions the API lets callers in; rates are requests per minute, 0 for no bound.

    loopback: only this machine reaches it. trusted_proxies: whose word about addresses is taken. hosts: names that it
    answers to beside the local ones. origins: web pages that may use it from a browser.
    """

    loopback: bool = True
    allow_anonymous: bool = False
    key_per_minute: int = 0
    address_per_minute: int = 0
    failures_per_minute: int = 0
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def new_key(tenant: str, scopes: frozenset[Scope], name: str = "") -> tuple[Key, str]:
    """A key and its token, which is shown once and kept nowhere."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    return Key(key_id, tenant, scopes, _digest(secret), name), f"cw_{key_id}_{secret}"


def read_token(token: str) -> tuple[str, str] | None:
    """Id and digest of a token; None if it does not look like one."""
    found = _TOKEN.fullmatch(token) if len(token) == _TOKEN_CHARS else None
    return (found[1], _digest(found[2])) if found else None


def is_tenant(text: str) -> bool:
    """Whether this can be a tenant's name; see TENANT_RULE."""
    return bool(_TENANT.fullmatch(text))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
