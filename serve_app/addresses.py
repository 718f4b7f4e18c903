"""Whose address a request comes from. Pure.

Any client can write an X-Forwarded-For header, and every honest proxy appends to it whom it heard
from. So the chain is believed from its right end, and only as far as it names our own proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
NOBODY = "unknown"
SITE_BITS = 64
"""One customer's IPv6 network: whoever has one address of it has them all."""


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The nearest address that is not a trusted proxy's; for IPv6 its /64.

    peer: who is connected. forwarded_for: the header's lines, in order.
    """
    nearest = NOBODY
    chain = [part.strip() for line in forwarded_for for part in line.split(",")]
    for text in reversed([*chain, peer or ""]):
        try:
            address = ip_address(text)
        except ValueError:
            break  # what stands left of nonsense is nobody's word
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        nearest = str(address)
        if isinstance(address, IPv6Address):
            nearest = str(IPv6Network((address, SITE_BITS), strict=False))
        if not any(address in network for network in trusted):
            break
    return nearest
