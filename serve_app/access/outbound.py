"""To which addresses this service opens connections of its own, where others say the URL."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM

import httpx

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

PORTS = (80, 443)
URL_CHARACTERS = 4096
_GLOBAL_V6 = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.88.99.0/24",  # 6to4 relays
            "2001::/23",  # Teredo and other special purposes
            "2001:db8::/32",
            "2002::/16",  # 6to4: any IPv4 address inside
            "3fff::/20",
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, and stands for no other one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if any(parsed in network for network in _NOT_PUBLIC):
        return False
    match parsed:
        case IPv4Address():
            return parsed.is_global and not parsed.is_multicast
        case IPv6Address() if parsed in _TRANSLATED:
            return is_public(str(IPv4Address(int(parsed) & 0xFFFFFFFF)))
        case IPv6Address():
            return parsed in _GLOBAL_V6 and parsed.scope_id is None


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name, the preferred first. OSError when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def pinned(
    method: str,
    target: httpx.URL,
    address: str,
    headers: dict[str, str],
    content: bytes | None = None,
) -> httpx.Request:
    """A request to that very address, with the name of its URL as host and for TLS."""
    return httpx.Request(
        method,
        target.copy_with(host=address, fragment=None),
        headers={"host": target.netloc.decode("ascii"), **headers},
        content=content,
        extensions={"sni_hostname": target.raw_host.decode("ascii")},
    )


@cache
def tls() -> ssl.SSLContext:
    """Of public authorities. Reads files: call it on a thread."""
    return httpx.create_ssl_context(trust_env=False)
