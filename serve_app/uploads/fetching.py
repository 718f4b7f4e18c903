"""Pictures behind http(s) URLs, fetched for a client without becoming its hand inside the network.

Off until hosts are allowed. A name is resolved once, every address of it must be public, and the
connection goes to that very address; nothing is followed, and nothing of ours is sent. Pictures are
fetched before their edit's turn comes, so that a slow server keeps no picture from being decoded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM
from weakref import WeakValueDictionary

import httpx

from serve_app.config.sections import RemoteImagesSection
from serve_app.wire.errors import InvalidRequest

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MOST_OF_TENANT = 2
MOST = 8
"""Edits whose pictures are fetched, or held in memory until their turn comes."""
PORTS = (80, 443)
URL_CHARACTERS = 4096
HEADERS = {
    "accept": "image/png, image/jpeg, image/webp",
    "accept-encoding": "identity",
    "connection": "close",
    "user-agent": "meltproof",
}
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


class Unfetchable(ValueError):
    """The URL is not fetched, or what is behind it could not be; the sentence is for the client."""


class RemoteImages:
    """Of one gateway, on its event loop."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST)
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def fetched(
        self, tenant: str, urls: Mapping[str, tuple[str, str]], remote: RemoteImagesSection
    ) -> AsyncGenerator[dict[str, bytes]]:
        """What is behind them, by role; held for as long as this lasts. urls: the parameter
        that names it, and the URL. Raises InvalidRequest that names it."""
        own = self._of.setdefault(tenant, asyncio.Semaphore(MOST_OF_TENANT))
        async with own, self._all:
            pictures = {}
            for role, (param, url) in urls.items():
                pictures[role] = await _fetched(param, url, remote)
            yield pictures


async def _fetched(param: str, url: str, remote: RemoteImagesSection) -> bytes:
    try:
        return await fetch(url, remote)
    except Unfetchable as problem:
        message = f"Invalid value for '{param}': {problem}."
        raise InvalidRequest(message, param=param, code="invalid_image_url") from None


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


async def fetch(
    url: str,
    remote: RemoteImagesSection,
    *,
    ports: Collection[int] = PORTS,
    allowed: Callable[[str], bool] = is_public,
    resolve: Resolve = resolve,
) -> bytes:
    """What is behind an http or https URL, as it came. Raises Unfetchable.

    Nothing but tests passes ports, allowed or resolve.
    """
    target = _target(url, remote.hosts, ports)
    try:
        async with asyncio.timeout(remote.seconds):
            addresses = await resolve(target.raw_host.decode("ascii"), target.port or 0)
            if not addresses or not all(map(allowed, addresses)):
                raise Unfetchable("its host has an address that is not public")
            return await _read(target, addresses[0], remote.max_bytes)
    except TimeoutError:
        raise Unfetchable(f"it took longer than {remote.seconds:g} s to fetch") from None
    except (httpx.HTTPError, OSError, UnicodeError):  # the last: a name too long to ask for
        raise Unfetchable("its server could not be reached, or broke off") from None


def _target(url: str, hosts: Sequence[str], ports: Collection[int]) -> httpx.URL:
    """The URL, when nothing speaks against asking for it. Raises Unfetchable."""
    if not hosts:
        raise Unfetchable("URLs are not fetched here; send a data: URL or a file_id")
    if len(url) > URL_CHARACTERS:
        raise Unfetchable(f"it is longer than {URL_CHARACTERS} characters")
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise Unfetchable("it is not a URL") from None
    host = target.raw_host.decode("ascii")
    if target.scheme not in ("http", "https") or not host:
        raise Unfetchable("it must begin with https:// or http://")
    if target.userinfo:
        raise Unfetchable("it must not contain a user or a password")
    if not any(fnmatchcase(host, pattern) for pattern in hosts):
        raise Unfetchable("its host is not among those that are fetched from")
    if (target.port or {"http": 80, "https": 443}[target.scheme]) not in ports:
        raise Unfetchable("its port is not 80 or 443")
    return target


async def _read(target: httpx.URL, address: str, max_bytes: int) -> bytes:
    tls = await asyncio.to_thread(_tls)
    request = httpx.Request(
        "GET",
        target.copy_with(host=address, fragment=None),
        headers={"host": target.netloc.decode("ascii"), **HEADERS},
        extensions={"sni_hostname": target.raw_host.decode("ascii")},
    )
    async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=None) as client:
        answer = await client.send(request, stream=True)
        try:
            return await _body(answer, max_bytes)
        finally:
            await answer.aclose()


async def _body(answer: httpx.Response, max_bytes: int) -> bytes:
    """As it is on the wire: a body that is packed is no picture, and a bomb stays small."""
    if answer.is_redirect:
        raise Unfetchable("its server answered with a redirect, and those are not followed")
    if answer.status_code != httpx.codes.OK:
        raise Unfetchable(f"its server answered {answer.status_code}")
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise Unfetchable(f"it has more than {max_bytes / 1e6:g} MB")
    return bytes(body)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
