"""Pictures behind http(s) URLs, fetched for a client without becoming its hand inside the network.

Off until hosts are allowed. A name is resolved once, every address of it must be public, and the
connection goes to that very address; nothing is followed, and nothing of ours is sent. Pictures are
fetched before their edit's turn comes, so that a slow server keeps no picture from being decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from weakref import WeakValueDictionary

import httpx

from serve_app.access.outbound import (
    PORTS,
    URL_CHARACTERS,
    Resolve,
    is_public,
    pinned,
    resolve,
    tls,
)
from serve_app.config.sections import RemoteImagesSection
from serve_app.wire.errors import InvalidRequest

MOST_OF_TENANT = 2
MOST = 8
"""Edits whose pictures are fetched, or held in memory until their turn comes."""
HEADERS = {
    "accept": "image/png, image/jpeg, image/webp",
    "accept-encoding": "identity",
    "connection": "close",
    "user-agent": "meltproof",
}


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
    request = pinned("GET", target, address, HEADERS)
    async with httpx.AsyncClient(
        verify=await asyncio.to_thread(tls), trust_env=False, timeout=None
    ) as client:
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
