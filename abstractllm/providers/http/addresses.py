"""Which network addresses a file may be fetched from: those of the public internet. Pure; resolves nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_V4: Mapping[ipaddress.IPv4Network, str] = {
    ipaddress.IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "unspecified",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a carrier's customers, or a cloud's metadata",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "a cloud's metadata",
        "169.254.0.0/16": "link-local, or a cloud's metadata",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved, or a cloud's metadata",
        "192.0.2.0/24": "reserved for examples",
        "192.88.99.0/24": "reserved",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "reserved for measurements",
        "198.51.100.0/24": "reserved for examples",
        "203.0.113.0/24": "reserved for examples",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}
"""IANA's IPv4 special-purpose address registry (RFC 6890), multicast (RFC 5771), and Azure's address for its agents.

Written down here because `ipaddress` changes its mind from one release of Python to the next.
"""

_V6: Mapping[ipaddress.IPv6Network, str] = {
    ipaddress.IPv6Network(network): what
    for network, what in {
        "::/128": "unspecified",
        "::1/128": "loopback",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "fec0::/10": "private",
        "ff00::/8": "multicast",
        "2001::/23": "reserved for protocols",
        "2001:db8::/32": "reserved for examples",
        "2002::/16": "a tunnel to an IPv4 address",
        "3fff::/20": "reserved for examples",
    }.items()
}
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out to be used on the internet; what is outside of it is refused."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses that carry an IPv4 address, at which the connection ends (RFC 4291, RFC 6052): that one is judged."""


def objection(address: str, allowed: Iterable[Network] = ()) -> str | None:
    """Return what speaks against fetching from an address, such as "loopback"; None where nothing does.

    `allowed` are networks that may be fetched from all the same.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        return "link-local"
    if any(found.version == network.version and found in network for network in allowed):
        return None
    return _objection_v4(found) if isinstance(found, ipaddress.IPv4Address) else _objection_v6(found, allowed)


def _objection_v4(address: ipaddress.IPv4Address) -> str | None:
    return next((what for network, what in _V4.items() if address in network), None)


def _objection_v6(address: ipaddress.IPv6Address, allowed: Iterable[Network]) -> str | None:
    if address in _MAPPED or address in _NAT64:
        return objection(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)), allowed)
    special = next((what for network, what in _V6.items() if address in network), None)
    return special or (None if address in _GLOBAL_V6 else "reserved")
