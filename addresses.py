"""Which network addresses are public, and which hosts are meant to have others."""

from __future__ import annotations

import ipaddress

#: Everything that is not for hosts on the Internet. The library's is_global lets some of it pass.
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
#: What a resolver answers in a network without IPv4: the last 32 bits are the IPv4 address that is meant.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


def is_public(address: str) -> bool:
    """True if a host on the Internet can have this address. IPv4 in the clothes of IPv6 is judged as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = parsed.ipv4_mapped or (ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in _NAT64 else None)
        if embedded is None:
            return parsed in _PUBLIC_6 and not any(parsed in block for block in _NOT_PUBLIC_6)
        parsed = embedded
    return not any(parsed in block for block in _NOT_PUBLIC_4)


def is_local_name(host: str) -> bool:
    """True if whoever wrote `host` meant a place of their own: an address, or a name that no public DNS answers for.

    Any other name is in somebody's DNS zone, and may lead anywhere tomorrow.
    """
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(_LOCAL_SUFFIXES)
    return True
