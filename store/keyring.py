"""API keys as the store keeps them: found by their id, created and revoked, never removed."""

from __future__ import annotations

from access import Key, Scope
from errors import NotFound
from store.connection import Connection, translated
from store.records import BROKEN

_SCOPES = frozenset(Scope)


class Keyring(Connection):
    """A key that was revoked or has expired stays listed, so that a service which had keys once never opens again."""

    def find_key(self, key_id: str) -> tuple[Key | None, bool, int]:
        """The key of this id if there is one, whether there are any keys at all, and the moment (Unix ms)."""
        with translated(), self._pipeline() as pipe:
            pipe.hgetall(self._key("api_key", key_id)).exists(self._key("api_keys")).time()
            stored, any_keys, (seconds, micros) = pipe.execute()
        return _key_of(stored), bool(any_keys), seconds * 1000 + micros // 1000

    def add_key(self, key: Key, lifetime_ms: int = 0) -> Key:
        """Keep a new key, good for `lifetime_ms` (0: for ever). Returns it with its moments."""
        scopes = ",".join(sorted(key.scopes))
        self._run("add_key", key.id, lifetime_ms, "tenant", key.tenant, "scopes", scopes, "digest", key.digest,
                  "name", key.name)  # fmt: skip
        kept, _, _ = self.find_key(key.id)
        return kept or key

    def revoke_key(self, key_id: str, tenant: str = "*") -> Key:
        """Let a key open nothing from now on; a tenant revokes its own alone. Again is no mistake. Raises NotFound."""
        kept = self.find_key(key_id)[0]
        if kept is None or tenant not in ("*", kept.tenant):
            raise NotFound("There is no key of this id.")
        self._run("revoke_key", key_id)
        return self.find_key(key_id)[0] or kept

    def api_keys(self) -> list[Key]:
        """All keys there ever were, the oldest first."""
        with translated():
            ids = [name.decode() for name in self._redis.zrange(self._key("api_keys"), 0, -1)]
            with self._pipeline() as pipe:
                for key_id in ids:
                    pipe.hgetall(self._key("api_key", key_id))
                stored = pipe.execute()
        return [key for key in map(_key_of, stored) if key]

    def key_used(self, key: Key, now_ms: int) -> None:
        """Remember that a key was used at this moment."""
        with translated():
            self._redis.hset(self._key("api_key", key.id), "last_used_ms", now_ms)


def _key_of(stored: dict[bytes, bytes]) -> Key | None:
    """The key of a hash, or None if there is none or it cannot be read: then it opens nothing.

    Scopes of a newer release are left out.
    """
    texts = {name.decode(): value.decode(errors="replace") for name, value in stored.items()}
    try:
        moments = {name: int(texts.get(name, 0)) for name in ("created_ms", "expires_ms", "last_used_ms", "revoked_ms")}
        scopes = frozenset(Scope(word) for word in texts["scopes"].split(",") if word in _SCOPES)
        if not scopes:
            return None
        return Key(texts["id"], texts["tenant"], scopes, texts["digest"], texts["name"], **moments)
    except BROKEN:
        return None
