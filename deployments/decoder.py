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

from ray import serve

from deployments import loopback
from deployments.leaving import hand_on_when_stopping
from deployments.logs import install_logs
from deployments.metrics.catalogue import Part
from deployments.metrics.reports import DecoderMetrics, started
from deployments.node_metrics import metrics_of_node
from deployments.replica_energy import joules_of_replica
from deployments.slots import LeakedSlots
from deployments.telemetry import TELL_NOTHING, Telemetry
from deployments.traces.reports import exporter_of, trace_pass
from deployments.transport import take_large_messages
from engine.measuring import StartReport, start_report
from engine.registry import create_decoder
from engine.render import RenderSpec, RenderUpdate
from engine.scheduled_render import ScheduledRender
from engine.streams import RenderStreams
from engine.watchdog import Watchdog

take_large_messages()

loopback.install()

log = logging.getLogger("ray.serve")

SHOW_SECONDS = 1.0
"""Between two looks at the slots, for the metrics."""


class DecoderReplica:
    """Streams updates of renders."""

    async def __init__(  # type: ignore[misc]  # noqa: PLR0913 - Serve awaits it; defaults
        self,
        family: str,
        options: dict[str, Any],
        slots: int,
        full_wait_seconds: float = 1.0,
        grace_seconds: float = 30.0,
        stuck_seconds: float = 120.0,
        telemetry: Telemetry = TELL_NOTHING,
    ) -> None:
        """slots: renders in the running batch. full_wait_seconds: see RenderStreams.
        grace_seconds: for renders that are done so soon after Serve asked this replica to stop;
        the others go on elsewhere at once. See leaving.py.
        stuck_seconds: of one pass, after which this process ends, and Serve starts another one."""
        self._stuck_seconds = stuck_seconds
        self._grace_seconds = grace_seconds
        self._leaked = LeakedSlots(time.monotonic)
        began = time.monotonic()
        install_logs(telemetry.logs, "decoder")
        self._name = serve.get_replica_context().replica_id.unique_id
        node = await asyncio.to_thread(metrics_of_node, telemetry.metrics)
        self._metrics = DecoderMetrics(node, telemetry.model, slots)
        self._traces = exporter_of(telemetry.traces, "decoder")
        decoder = await asyncio.to_thread(create_decoder, family, **options)
        self._report = await asyncio.to_thread(start_report, decoder, slots)
        self._streams = RenderStreams(
            decoder,
            slots,
            full_wait_seconds=full_wait_seconds,
            passed=self._passed,
            joules=await asyncio.to_thread(joules_of_replica),
        )
        started(node, Part.DECODER, telemetry.model, time.monotonic() - began)
        self._showing = asyncio.create_task(self._show())
        self._watchdog = Watchdog(self._streams.engine, stuck_seconds)
        self._watchdog.start()
        self._leaving = asyncio.create_task(hand_on_when_stopping(self._streams, grace_seconds))
        log.info(
            "decoder family %s is ready with %s slots after %.1f s%s", family, slots,
            time.monotonic() - began, f": {self._report.sentences(slots)}" if self._report else "",
        )  # fmt: skip

    def _passed(self, batch: Sequence[ScheduledRender], seconds: float) -> None:
        """On the engine's thread."""
        self._metrics.passed(batch, seconds)
        if self._traces is not None:
            trace_pass(self._traces, self._name, batch, seconds)

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
        self._metrics.reclaimed(self._leaked.reclaim())
        engine = self._streams.engine
        if (seconds := engine.stuck_seconds) > self._stuck_seconds:
            raise RuntimeError(f"the decoder has been at one pass for {seconds:.0f} s")
        if engine.error is not None:
            raise RuntimeError(f"the decoder engine stopped: {engine.error}")

    async def __del__(self) -> None:
        """Serve calls this once, after it has stopped sending work here."""
        self._leaving.cancel()
        self._showing.cancel()
        await self._streams.close(self._grace_seconds)
        await asyncio.to_thread(self._watchdog.stop)
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    async def _show(self) -> None:
        while True:
            self._metrics.show_slots(self._streams.engine.running)
            await asyncio.sleep(SHOW_SECONDS)
