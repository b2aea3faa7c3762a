"""Packages that a tenant's installs with npm loaded, for its later ones: what has not changed is not loaded again.

A parcel is what one install loaded and no earlier one had: tarballs, each called by its own SHA-512, in a folder of the
cellar that never changes. An install that finds no tree has links to them where npm looks for what its cache holds of a
digest; npm checks each against the integrity that lockfile or registry says. Of npm's own cache nothing else is taken:
its index could say anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor import cellar, spec
from executor.cellar import Cellar, Kept
from executor.dependencies import SCRIPTS_OFF
from executor.installers import NPM
from executor.sandbox import Guard
from metrics import Tally

GATHERER = (Path(__file__).parent / "gather.py").read_text()
#: Where npm keeps content by its SHA-512, in the workspace.
CONTENT = "home/.npm/_cacache/content-v2/sha512"
#: Links that one install gets at most, and what of a tenant is looked through for them; the last used comes first.
MAX_LINKS, MAX_PARCELS, MAX_TARBALLS = 2_000, 200, 20_000
_INTEGRITY = re.compile(r"\bsha512-([A-Za-z0-9+/]{86}==)")
_DIGEST = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Parcel(Kept):
    """One that is there: the bytes of each tarball, by its digest in hex."""

    tarballs: Mapping[str, int]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Parcel:
        """From JSON, as Kept.read()."""
        kept, tarballs = Kept.read(body), {str(name): int(size) for name, size in dict(body["tarballs"]).items()}
        return cls(kept.folder, kept.born, kept.slot, kept.size, tarballs)


@dataclass(frozen=True, slots=True)
class Offer:
    """What lies ready for an install: links below CONTENT, and the bytes behind them."""

    links: Mapping[str, str] = field(default_factory=dict)
    size: int = 0


def wanted(files: Mapping[str, str], install: Sequence[str]) -> frozenset[str] | None:
    """The digests that an install can make use of; None: any, because the registry will say which.

    npm asks its cache for a package only if it knows integrity and address, so it has no use for any if a lockfile has
    no addresses; nor have other tools.
    """
    if not install or not install[0].startswith((NPM.frozen, NPM.loose)):
        return frozenset()
    lockfile = next((files[name] for name in reversed(NPM.lockfiles) if name in files), None)
    if lockfile is None:
        return None
    return frozenset(map(_hex, _INTEGRITY.findall(lockfile))) if '"resolved"' in lockfile else frozenset()


def _hex(integrity: str) -> str:
    return base64.b64decode(integrity).hex()


def offered(parcels: Iterable[Parcel], needed: frozenset[str] | None) -> Offer:
    """What of these parcels, the last used first, is put where npm looks."""
    found = {digest: parcel for parcel in parcels for digest in parcel.tarballs if needed is None or digest in needed}
    taken = list(found.items())[:MAX_LINKS]
    links = {_place(digest): f"{cellar.MOUNT}/{parcel.folder}/{digest}" for digest, parcel in taken}
    return Offer(links, sum(parcel.tarballs[digest] for digest, parcel in taken))


def _place(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:4]}/{digest[4:]}"


def gathered(said: bytes) -> tuple[dict[str, int], list[str]]:
    """What a gathering container says: the tarballs that it took, with their bytes, and what was there before.

    Raises ValueError if it is wrong.
    """
    try:
        body = json.loads(said)
        taken, known = {str(name): int(size) for name, size in body["taken"].items()}, list(map(str, body["known"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"the gatherer said something else: {error}") from error
    if not all(map(_DIGEST.fullmatch, [*taken, *known])):
        raise ValueError("the gatherer named something that is no digest")
    return taken, known


class Parcels:
    """The parcels of all tenants at one engine."""

    def __init__(self, kept_in: Cellar, tally: Tally) -> None:
        """They are among what is kept there; how many packages were loaded, and how many not, is counted."""
        self._cellar = kept_in
        self._tally = tally

    def offer(self, tenant: str, needed: frozenset[str] | None) -> Offer:
        """What a tenant's install finds of earlier ones. Raises EngineFault."""
        if not self._cellar.enabled or needed == frozenset():
            return Offer()
        return offered(self._of(tenant).values(), needed)

    def add(self, tenant: str, offer: Offer, tenancy: spec.Tenancy, most: int, guard: Guard) -> None:
        """Make a parcel of what an install loaded, at most so many bytes. Raises as Cellar.fill()."""
        earlier = self._of(tenant)

        def program(folder: str) -> tuple[str, ...]:
            order = {"root": cellar.FROM, "content": CONTENT, "target": folder, "most": most}
            folders = [f"{cellar.MOUNT}/{parcel.folder}" for parcel in earlier.values()]
            return GATHERER, json.dumps({**order, "earlier": folders})

        def made(kept: Kept, said: bytes) -> tuple[str, Parcel] | None:
            taken, known = gathered(said)
            for name, parcel in earlier.items():
                if not parcel.tarballs.keys().isdisjoint(known):
                    self._cellar.use(name)
            self._tally.count("cache_hits", "packages", by=sum(_place(digest) in offer.links for digest in known))
            self._tally.count("cache_misses", "packages", by=len(taken))
            parcel = Parcel(kept.folder, kept.born, kept.slot, sum(taken.values()), taken)
            return (f"{_whose(tenant)}.{kept.folder}.parcel", parcel) if taken else None

        self._cellar.fill(tenancy, program, guard, made)

    def _of(self, tenant: str) -> dict[str, Parcel]:
        found: dict[str, Parcel] = {}
        count = 0
        for name, parcel in self._cellar.find(f"{_whose(tenant)}.*", Parcel.read):
            count += len(parcel.tarballs)
            if len(found) == MAX_PARCELS or count > MAX_TARBALLS:
                break
            found[name] = parcel
        return found


def may_add(install: Sequence[str]) -> bool:
    """Whether an install's packages are for later ones: npm's alone, and if it ran none of their scripts."""
    return bool(install) and all(each.startswith("npm ") and SCRIPTS_OFF in each for each in install)


def _whose(tenant: str) -> str:
    """How the names of a tenant's parcels begin in the list."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32]
