"""What the proxy is told to let through."""

from __future__ import annotations

import pytest

from executor.egress import Origin, Rules, environment, squid_config


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("registry.test", Origin("https", "registry.test", 443)),
        ("registry.test:8443", Origin("https", "registry.test", 8443)),
        ("https://Registry.Test/path/", Origin("https", "registry.test", 443)),
        ("http://mirror.test:4873", Origin("http", "mirror.test", 4873)),
        ("http://10.0.0.5:4873", Origin("http", "10.0.0.5", 4873)),
    ],
)
def test_origin(text: str, origin: Origin) -> None:
    """A host is given bare, with a port, or as an address; https is the default."""
    assert Origin.parse(text) == origin


@pytest.mark.parametrize(
    "text", ["", "ftp://x.test", "*.test", "x test", "a\nhttp_access allow all", "https://10.0.0.5", "-x.test", "[::1]"]
)
def test_no_origin(text: str) -> None:
    """What could not be checked by name, or could say more than a host, is refused."""
    with pytest.raises(ValueError, match="is not a host"):
        Rules(allow=(text,)).check()


def test_networks() -> None:
    """Networks must be networks."""
    with pytest.raises(ValueError, match="appear to be"):
        Rules(private=("10.0.0.0/8 all",)).check()


def rules_of(config: str) -> list[str]:
    return [line for line in config.splitlines() if line.startswith(("http_access", "ssl_bump"))]


def test_order() -> None:
    """Names are checked before anything is resolved, addresses before anything is allowed, greetings at last."""
    config = squid_config([Origin.parse("registry.test"), Origin.parse("http://mirror.test:4873")], [])

    assert rules_of(config) == [
        "ssl_bump peek step1",
        "http_access deny !known",
        "http_access deny inside",
        "http_access allow !CONNECT host0 port0",
        "http_access allow CONNECT host1 port1",
        "ssl_bump splice step2 host1 greeting1",
        "http_access deny all",
        "ssl_bump terminate step2",
    ]
    assert "acl known dstdomain -n mirror.test registry.test\n" in config
    assert "acl greeting1 ssl::server_name --client-requested registry.test\n" in config


def test_private_networks() -> None:
    """An address that is not public is let through only where a network was named for it."""
    config = squid_config([Origin.parse("http://mirror.test:4873")], ["10.1.0.0/16"])

    assert "acl private dst 10.1.0.0/16\n" in config
    assert "http_access deny inside !private\n" in config


def test_nothing_allowed() -> None:
    """Without any registry nothing is let through."""
    assert not [line for line in rules_of(squid_config([], [])) if "allow" in line]


def test_environment() -> None:
    """Every package manager is sent to the keeper, in whatever variable it looks."""
    assert set(environment().values()) == {"http://127.0.0.1:3128"}
    assert {"HTTPS_PROXY", "https_proxy", "npm_config_https_proxy", "YARN_HTTPS_PROXY"} <= environment().keys()
