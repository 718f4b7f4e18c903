"""Announces a model in the ledger for as long as its dispatcher lives, so that gateways know it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from engine.measuring import StartReport
from jobs.announcements import Announcement
from jobs.client.async_ledger import AsyncModelTable
from jobs.history import DecoderCounts
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class DecodersNow:
    """Of one model. available: its orders are drawn as soon as it is their turn. start_seconds:
    until the first decoder draws that comes with the work; None where one is there, or none
    comes. running, starting: replicas that draw, and that do not yet; None: unknown."""

    available: bool
    start_seconds: float | None = None
    running: int | None = None
    starting: int | None = None

    @property
    def there(self) -> bool:
        """Whether one can be asked."""
        return self.available and self.start_seconds is None


AWAY = DecodersNow(available=False)


class Announcing:
    """Of one dispatcher. look: how its decoders are. ask: what one of them measured at its start,
    which is announced in place of what is configured."""

    def __init__(
        self,
        ledger: AsyncModelTable,
        look: Callable[[], Awaitable[DecodersNow]],
        ask: Callable[[], Awaitable[StartReport | None]],
        model: Announcement,
    ) -> None:
        self._ledger = ledger
        self._look = look
        self._model = model
        self._decoders = AWAY
        self._ask = ask
        self._asked = False
        self._report: StartReport | None = None
        self._news = asyncio.Event()

    def say(self, model: Announcement) -> None:
        """Announce this from now on."""
        self._model = model
        self._news.set()

    @property
    def available(self) -> bool:
        """Whether orders are drawn, as far as was seen last."""
        return self._decoders.available

    def decoders(self) -> DecoderCounts:
        """The decoders as they were seen last."""
        return DecoderCounts(self._decoders.running, self._decoders.starting)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._announce())

    async def _announce(self) -> None:
        while True:
            self._news.clear()
            model = self._terms()
            try:
                await self._ledger.announce(model, ready=self._decoders.available)
            except LedgerUnavailable as error:
                log.info("%s is not announced: %s", model.name, error)
            except Exception:
                log.exception("%s is not announced", model.name)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._news.wait()

    async def _follow(self) -> None:
        """While nothing can be said of the decoders, what was known last stays."""
        while True:
            try:
                found = await self._look()
            except Exception as error:  # noqa: BLE001 - Ray raises many while its controller is away
                log.info("decoders of %s cannot be seen: %r", self._model.name, error)
            else:
                if found.there and not self._asked:
                    await self._ask_one()
                if found != self._decoders:
                    self._decoders = found
                    self._news.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_one(self) -> None:
        """A decoder that cannot say it draws all the same."""
        try:
            self._report = await self._ask()
        except Exception as error:  # noqa: BLE001 - as above, and versions that cannot be asked
            log.info("what decoders of %s measured is not known: %r", self._model.name, error)
        else:
            self._asked = True
            self._news.set()

    def _terms(self) -> Announcement:
        model = replace(self._model, start_seconds=self._decoders.start_seconds)
        if self._report is None:
            return model
        seconds = self._report.pass_seconds_of(usual_passes(model.qualities))
        return replace(model, pass_seconds=seconds, measured=self._report.numbers())


def usual_passes(qualities: Mapping[str, int]) -> int:
    """Of a picture of medium quality, or of the one in the middle."""
    ordered = sorted(qualities.values()) or [1]
    return qualities.get("medium", ordered[len(ordered) // 2])
