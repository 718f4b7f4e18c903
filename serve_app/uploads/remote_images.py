"""Pictures of edits that are behind URLs: fetched before their edit's turn comes, so that a slow
server keeps no picture from being decoded; so many at a time, and few of one tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from serve_app.config.sections import RemoteImagesSection
from serve_app.uploads.fetching import Unfetchable, fetch
from serve_app.wire.errors import InvalidRequest

MOST_OF_TENANT = 2
MOST = 8
"""Edits whose pictures are fetched, or held in memory until their turn comes."""


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
