"""Announces a model in the ledger for as long as its dispatcher lives, so that gateways know it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from dispatch.ports import Decoders, StageUnavailable
from jobs.announcements import Announcement
from jobs.client.async_ledger import AsyncModelTable
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
RETRY_SECONDS = 1.0


class Announcing:
    """Of one dispatcher. The model is ready once a decoder has held a slot for it."""

    def __init__(
        self, ledger: AsyncModelTable, decoders: Decoders, model: Announcement, *, ready: bool
    ) -> None:
        """ready: its decoders come with the work, so that none needs to be there."""
        self._ledger = ledger
        self._decoders = decoders
        self._model = model
        self._ready = ready
        self._news = asyncio.Event()

    def say(self, model: Announcement) -> None:
        """Announce this from now on."""
        self._model = model
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wait_for_a_decoder())
            group.create_task(self._announce())

    async def _announce(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._ledger.announce(self._model, ready=self._ready)
            except LedgerUnavailable as error:
                log.info("%s is not announced: %s", self._model.name, error)
            except Exception:
                log.exception("%s is not announced", self._model.name)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._news.wait()

    async def _wait_for_a_decoder(self) -> None:
        while not self._ready:
            try:
                async with self._decoders.reserve():
                    self._ready = True
            except StageUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("no decoder of %s can be asked", self._model.name)
                await asyncio.sleep(RETRY_SECONDS)
        self._news.set()
