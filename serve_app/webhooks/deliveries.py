"""Delivers webhooks from the ledger, in every gateway: claims what is due, sends it, writes down
what came of it. A gateway that dies loses nothing: its deliveries are due again when their lease
ends."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from deployments.metrics import catalogue as c
from deployments.metrics.recorder import Metrics
from jobs.client.async_ledger import AsyncWebhooks
from jobs.ledger_errors import LedgerUnavailable
from jobs.webhooks import ClaimedDelivery, DeliveryAttempt, DeliveryState
from serve_app.config.webhooks import WebhooksSection
from serve_app.webhooks.sending import SendResult, send
from serve_app.wire.webhooks import signed

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0
IDLE_SECONDS = 5.0
"""Between polls while no tenant has an endpoint."""
GATHER_SECONDS = 0.05
"""Between claims while deliveries end, so that each claim takes several."""
_ENDS = {
    DeliveryState.DELIVERED: c.DeliveryEnd.DELIVERED,
    DeliveryState.WAITING: c.DeliveryEnd.FAILED,
    DeliveryState.DEAD: c.DeliveryEnd.DEAD,
}
Send: TypeAlias = Callable[[str, bytes, dict[str, str], WebhooksSection], Awaitable[SendResult]]


class Deliveries:
    """Of one gateway, on its event loop. section: as it is configured now. send: tests pass one."""

    def __init__(
        self,
        ledger: AsyncWebhooks,
        section: Callable[[], WebhooksSection],
        metrics: Metrics,
        send: Send = send,
    ) -> None:
        self._ledger = ledger
        self._section = section
        self._metrics = metrics
        self._send = send
        self._any_endpoint = False
        self._in_hand: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. What is being sent then is sent again when its lease has ended."""
        self._metrics.begin(c.WEBHOOKS)
        try:
            while True:
                more = False
                self._ended.clear()
                try:
                    more = await self.turn()
                except LedgerUnavailable as error:
                    log.warning("webhooks wait: %s", error)
                except Exception:
                    log.exception("webhooks failed, trying again")
                await self._pause(more)
        finally:
            for task in self._tasks:
                task.cancel()

    async def turn(self) -> bool:
        """Begin with what is due and has room; whether there may be more. Raises
        LedgerUnavailable."""
        if not self._any_endpoint:
            self._any_endpoint = bool(await self._ledger.endpoints(None, 1))
            if not self._any_endpoint:
                self._metrics.show(c.WEBHOOK_OVERDUE_SECONDS, value=0.0)
                return False
        overdue_seconds = await self._ledger.overdue_deliveries()
        self._metrics.show(c.WEBHOOK_OVERDUE_SECONDS, value=overdue_seconds or 0.0)
        section = self._section()
        room = section.concurrent - self._in_hand.total()
        if overdue_seconds is None or room < 1:
            return False
        in_hand = {endpoint: count for endpoint, count in self._in_hand.items() if count}
        claimed = await self._ledger.claim_deliveries(room, in_hand, section.rules())
        for one in claimed:
            self._in_hand[one.endpoint.id] += 1
            task = asyncio.create_task(self._deliver(one, section))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claimed) > 0

    async def _pause(self, more: bool) -> None:
        """Until the next poll; shortly, once a delivery has ended that made room for more."""
        if more or self._tasks:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                return
            await asyncio.sleep(GATHER_SECONDS)
        else:
            await asyncio.sleep(POLL_SECONDS if self._any_endpoint else IDLE_SECONDS)

    async def _deliver(self, one: ClaimedDelivery, section: WebhooksSection) -> None:
        delivery, endpoint, now = one.delivery, one.endpoint, time.time()
        try:
            body, headers = signed(delivery, endpoint.secrets(now), now)
            sent = await self._send(endpoint.url, body, headers, section)
            attempt = DeliveryAttempt(one, sent.status, sent.error, sent.gone, random.random())
            (state,) = await self._ledger.settle_deliveries([attempt], section.rules())
        except LedgerUnavailable as error:
            log.warning("webhook %s is sent again later: %s", delivery.event, error)
        except Exception:
            log.exception("webhook %s failed", delivery.event)
        else:
            self._metrics.add(c.WEBHOOKS, _ENDS[state])
            if sent.error is not None:
                log.info("webhook %s to %s: %s", delivery.event, endpoint.id, sent.error)
        finally:
            self._in_hand[endpoint.id] -= 1
            if not self._in_hand[endpoint.id]:
                del self._in_hand[endpoint.id]
            self._ended.set()
