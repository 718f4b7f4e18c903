"""The client address of a request. Pure.

Any client can write an X-Forwarded-For header, and every honest proxy appends the address of its
peer. So the chain is believed from its right end, and only as far as it names our own proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
UNKNOWN = "unknown"
SITE_BITS = 64
"""One customer's IPv6 network: a client with one address of it has them all."""


def is_trusted(peer: str | None, trusted: Sequence[Network]) -> bool:
    """Whether the peer of the connection is one of our own proxies."""
    address = _parsed(peer or "")
    return address is not None and any(address in network for network in trusted)


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The nearest address that is not a trusted proxy's; for IPv6 its /64.

    peer: of the connection. forwarded_for: the header's lines, in order.
    """
    nearest = UNKNOWN
    chain = [part.strip() for line in forwarded_for for part in line.split(",")]
    for text in reversed([*chain, peer or ""]):
        address = _parsed(text)
        if address is None:
            break  # what stands left of nonsense cannot be believed
        nearest = str(address)
        if isinstance(address, IPv6Address):
            nearest = str(IPv6Network((address, SITE_BITS), strict=False))
        if not any(address in network for network in trusted):
            break
    return nearest


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
