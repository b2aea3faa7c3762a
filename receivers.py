"""Reads what the settings say about receivers of webhooks: addresses, signing secrets, further endpoints by name."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from events import Endpoint

#: What a job may write instead of a name; so no endpoint is called this.
NONE = "none"
MAX_ENDPOINTS = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_FIELDS = frozenset({"url", "secret", "resultPath", "progressPath"})


def site(url: str) -> str:
    """`url` without a closing slash. Raises ValueError unless it is an http(s) address that may be shown in logs."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or re.search(r"[\s\\]", url):
        raise ValueError("is not an http:// or https:// address of the form https://host[:port][/path]")
    return url.rstrip("/")


def derived_site(convex_url: str) -> str:
    """The address of HTTP actions that belongs to a Convex deployment's address, where there is no doubt.

    Raises:
        ValueError: It has to be given.
    """
    parts = urlsplit(convex_url)
    host, bare = parts.hostname or "", parts.path == ""
    if bare and parts.scheme == "https" and parts.port is None and host.endswith(".convex.cloud"):
        return f"https://{host.removesuffix('.convex.cloud')}.convex.site"
    if bare and parts.port == 3210:
        return convex_url.removesuffix("3210") + "3211"
    raise ValueError(
        "must be set: the address of HTTP actions follows from CONVEX_URL only for https://….convex.cloud and port 3210"
    )


def signing_secrets(text: str) -> tuple[str, ...]:
    """The secrets in a list, the newest first. Raises ValueError, which counts them and never shows one."""
    secrets = tuple(text.replace(",", " ").split())
    for number, secret in enumerate(secrets, 1):
        prefix, _, encoded = secret.partition("_")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if prefix != "whsec" or not 24 <= len(key) <= 64:
            raise ValueError(f"secret number {number} is not whsec_ followed by the base64 of 24 to 64 random bytes")
    if not secrets:
        raise ValueError("holds no secret")
    return secrets


def endpoints(text: str, paths: Mapping[str, str], ca_bundle: str = "", private: bool = False) -> dict[str, Endpoint]:
    """The endpoints in a JSON object: name -> {"url", "secret"} and, to differ from `paths`, resultPath, progressPath.

    Raises:
        ValueError: It shows names, and no values.
    """
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ValueError('is not a JSON object of the form {"name": {"url": "https://…", "secret": "whsec_…"}}')  # noqa: TRY004
    if len(given) > MAX_ENDPOINTS:
        raise ValueError(f"has {len(given)} endpoints; at most {MAX_ENDPOINTS} are possible")
    read = {name: _endpoint(name, fields, paths) for name, fields in given.items()}
    return {name: replace(each, ca_bundle=ca_bundle, private=private) for name, each in read.items()}


def _endpoint(name: str, fields: Any, paths: Mapping[str, str]) -> Endpoint:
    if not _NAME.fullmatch(name) or name == NONE:
        raise ValueError(f"endpoint {name[:40]!r}: a name has 1 to 32 of a-z, 0-9, - and _, and is not {NONE}")
    if not isinstance(fields, dict) or not {"url", "secret"} <= fields.keys() <= _FIELDS:
        raise ValueError(f"endpoint {name}: it must have url and secret, and may have resultPath and progressPath")
    if not all(isinstance(value, str) for value in fields.values()):
        raise ValueError(f"endpoint {name}: all its fields must be texts")
    own = {kind: fields.get(f"{kind}Path", path) for kind, path in paths.items()}
    if not all(_PATH.fullmatch(path) for path in own.values()):
        raise ValueError(f"endpoint {name}: a path begins with / and has no query")
    try:
        return Endpoint(site(fields["url"]), signing_secrets(fields["secret"]), own)
    except ValueError as error:
        raise ValueError(f"endpoint {name}: {error}") from None
