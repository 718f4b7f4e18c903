"""The models of a lane as one gateway knows them: those of its config, and those that announce
themselves in the ledger, which need no restart of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

from engine.capabilities import Capabilities
from jobs.announcements import AnnouncedModel
from jobs.client.async_ledger import AsyncModelTable
from jobs.ledger_errors import LedgerUnavailable
from serve_app.wire.models import Models, ServedModel

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 2.0


class LaneModels:
    """Looks at the announcements now and then. For one event loop."""

    def __init__(
        self, ledger: AsyncModelTable, lane: str, configured: Sequence[ServedModel]
    ) -> None:
        self._ledger = ledger
        self._lane = lane
        self._announced: Sequence[AnnouncedModel] = ()
        self.adopt(configured)

    def adopt(self, configured: Sequence[ServedModel]) -> None:
        """Go by these from now on. What a config says counts before what was announced."""
        self.configured = configured
        self.now = Models((*self._configured_now(), *self._others()))

    def queues(self) -> list[str]:
        """Of all of them."""
        return [model.queue for model in self.now.all]

    async def follow(self) -> None:
        """Until cancelled. While the ledger is away, what is known stays known."""
        while True:
            try:
                await self.look()
            except LedgerUnavailable as error:
                log.info("models stay as they are: %s", error)
            except Exception:
                log.exception("models stay as they are")
            await asyncio.sleep(FOLLOW_SECONDS)

    async def look(self) -> None:
        """Take in what is announced now. Raises LedgerUnavailable."""
        self._announced = await self._ledger.models(self._lane)
        self.adopt(self.configured)

    def _configured_now(self) -> Iterator[ServedModel]:
        said = (one.announcement for one in self._announced if one.available)
        starts = {one.queue: one.start_seconds for one in said}
        for model in self.configured:
            queue = model.queue
            yield ServedModel(model.terms, model.can, queue in starts, starts.get(queue))

    def _others(self) -> Iterator[ServedModel]:
        names = {model.name for model in self.configured}
        queues = {model.queue for model in self.configured}
        for one in self._announced:
            said = one.announcement
            if said.name in names or said.queue in queues:
                continue
            try:
                can = Capabilities.from_json(said.capabilities)
            except TypeError as error:
                log.warning("model %s is of another version: %s", said.name, error)
            else:
                yield ServedModel(said, can, one.available, said.start_seconds)
