"""A decoder replica: hosts `engine.streams` in a Serve replica.

It holds no database credentials and knows no jobs. The engine alone owns the slots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from deployments import loopback
from deployments.slots import LeakedSlots
from engine.measuring import StartReport, start_report
from engine.registry import create_decoder
from engine.render import RenderSpec, RenderUpdate
from engine.streams import RenderStreams
from engine.watchdog import Watchdog

loopback.install()

log = logging.getLogger("ray.serve")


class DecoderReplica:
    """Streams updates of renders."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        family: str,
        options: dict[str, Any],
        slots: int,
        full_wait_seconds: float = 1.0,
        grace_seconds: float = 30.0,
        stuck_seconds: float = 120.0,
    ) -> None:
        """slots: renders in the running batch. full_wait_seconds: see RenderStreams.
        grace_seconds: how long renders may go on after Serve asked this replica to leave.
        stuck_seconds: of one pass, after which this process ends, and Serve starts another one."""
        self._stuck_seconds = stuck_seconds
        self._grace_seconds = grace_seconds
        self._leaked = LeakedSlots(time.monotonic)
        began = time.monotonic()
        decoder = await asyncio.to_thread(create_decoder, family, **options)
        self._report = await asyncio.to_thread(start_report, decoder, slots)
        self._streams = RenderStreams(decoder, slots, full_wait_seconds=full_wait_seconds)
        self._watchdog = Watchdog(self._streams.engine, stuck_seconds)
        self._watchdog.start()
        log.info(
            "decoder family %s is ready with %s slots after %.1f s%s", family, slots,
            time.monotonic() - began, f": {self._report.sentences(slots)}" if self._report else "",
        )  # fmt: skip

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See RenderStreams."""
        async with aclosing(self._streams.render(spec)) as updates:
            async for update in updates:
                yield update

    async def start_report(self) -> StartReport | None:
        """What was measured before this replica was ready; None where nothing is."""
        return self._report

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See RenderStreams."""
        self._streams.leave(render_ids)

    async def check_health(self) -> None:
        """Raises when the engine's thread has died or a pass does not end, so that Serve replaces
        this replica. See Watchdog for one that Serve's question does not reach."""
        self._leaked.reclaim()
        engine = self._streams.engine
        if (seconds := engine.stuck_seconds) > self._stuck_seconds:
            raise RuntimeError(f"the decoder has been at one pass for {seconds:.0f} s")
        if engine.error is not None:
            raise RuntimeError(f"the decoder engine stopped: {engine.error}")

    async def __del__(self) -> None:
        """Serve calls this once, after it has stopped sending work here."""
        await self._streams.close(self._grace_seconds)
        await asyncio.to_thread(self._watchdog.stop)
