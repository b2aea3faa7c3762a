"""Which addresses count as public, in every dress that addresses come in."""

from __future__ import annotations

import pytest

from addresses import is_local_name, is_public

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "4000::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    """Loopback, private, link-local, shared, reserved, documentation and multicast addresses are not public."""
    assert not is_public(address)


@pytest.mark.parametrize("address", [*PUBLIC, "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public(address: str) -> None:
    """Addresses of the Internet are public, also where a resolver dresses IPv4 as IPv6."""
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["localhost", "convex", "127.0.0.1", "::1", "[fe80::1%eth0]", "x.localhost", "host.docker.internal", "nas.local."],
)
def test_local_names(host: str) -> None:
    """An address as such, a name without a dot, and names that public DNS never answers for are meant as they stand."""
    assert is_local_name(host)


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "10.0.0.1.nip.io", "127.1", "internal.com"])
def test_names_of_others(host: str) -> None:
    """Any other name may lead anywhere tomorrow."""
    assert not is_local_name(host)
