"""A dispatcher replica: hosts `dispatch.dispatcher` on the replica's event loop, no more."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from autoscaling.lane_heat import LaneHeat
from autoscaling.limits import Threshold, thresholds_of
from autoscaling.temporary_limits import TemporaryLimits
from deployments import loopback
from deployments.decoder_presence import DecoderPresence
from deployments.heat_gauges import HeatGauges
from deployments.nodes import alive_nodes
from deployments.ports import RemoteClassifier, RemoteEncoder
from deployments.slots import DecoderSlots
from dispatch.announcing import Announcing
from dispatch.dispatcher import Dispatcher
from dispatch.identity import IdentityFiles, read_identity
from dispatch.postprocess import InProcesses, LocalPostprocessor
from dispatch.settings import DispatchSettings, Stages
from engine.capabilities import capabilities, weights_identity
from jobs.announcements import Announcement
from jobs.blobs.collector import Collector
from jobs.blobs.marker import check_store
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import check_place
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier

loopback.install()

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Where the ledger and the blobs are, and how long to wait for other stages."""

    dsn: str
    blobs_directory: str
    tiers: dict[str, Tier]
    thresholds: tuple[Threshold, ...]
    least_share: float
    retention: Retention
    model: Announcement
    """But for what is read of its files here."""
    identity: IdentityFiles
    """What pictures are marked and signed with."""
    family_options: dict[str, Any]
    finishing_threads: int = 1
    pass_timeout_seconds: float = 30.0
    """For one pass of a decoder."""


class DispatcherReplica:
    """Claims, dispatches, beats, rescues and forgets for as long as it lives.

    stages: handles of the encoder, the classifier and the decoder.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        settings: DispatchSettings,
        options: DispatcherOptions,
        stages: dict[str, DeploymentHandle],
    ) -> None:
        check_place(options.dsn, alive_nodes())
        ledger = await asyncio.to_thread(
            SqlLedger,
            options.dsn,
            tiers=options.tiers,
            least_share=options.least_share,
            attempts_max=settings.attempts,
        )
        await asyncio.to_thread(check_store, ledger, Path(options.blobs_directory))
        self._options = options
        self._ledger = AsyncLedger(ledger)
        blobs = DirectoryBlobs(options.blobs_directory)
        can = capabilities(options.model.family, options.family_options)
        marks = await asyncio.to_thread(read_identity, options.identity, datetime.now(UTC))
        self._work = await InProcesses.start(options.finishing_threads, can.cells, marks)
        decoders = DecoderSlots(stages["decoder"], options.pass_timeout_seconds)
        self._dispatcher = Dispatcher(
            self._ledger,
            Stages(
                encoder=RemoteEncoder(stages["encoder"]),
                classifier=RemoteClassifier(stages["classifier"]),
                decoders=decoders,
                postprocessor=LocalPostprocessor(blobs, self._work),
            ),
            replace(settings, can=can),
            worker=f"{os.getpid()}-{uuid.uuid4().hex[:8]}",
        )
        self._task = asyncio.create_task(self._dispatcher.run())
        identity = weights_identity(options.model.family, options.family_options)
        self._read: dict[str, Any] = {"capabilities": asdict(can), "identity": identity}
        model = replace(options.model, **self._read)
        decoders_there = DecoderPresence(stages["decoder"])
        self._announcing = Announcing(
            self._ledger, decoders_there.look, decoders_there.start_report, model
        )
        self._saying = asyncio.create_task(self._announcing.run())
        collector = Collector(self._ledger, blobs, model.lane, options.retention)
        self._collecting = asyncio.create_task(collector.run())
        self._limits = TemporaryLimits(
            self._ledger, settings.lane, options.tiers, options.thresholds
        )
        self._deciding = asyncio.create_task(self._limits.decide())
        gauges = HeatGauges(LaneHeat(self._ledger, settings.lane), settings.lane)
        self._showing = asyncio.create_task(gauges.run())

    def reconfigure(self, live: dict[str, Any]) -> None:
        """Tiers and temporary limits of an edited config file, without a restart; those of the
        start where it names none."""
        tiers = {name: Tier(**tier) for name, tier in (live.get("tiers") or {}).items()}
        thresholds = live.get("temporary_limits")
        self._limits.adopt(
            tiers or self._options.tiers,
            self._options.thresholds if thresholds is None else thresholds_of(thresholds),
        )

    def announce(self, model: Announcement) -> None:
        """Other terms of the same model from now on."""
        self._announcing.say(replace(model, **self._read))

    async def check_health(self) -> None:
        """Raises when the dispatcher's loops have ended, or no process for pixels starts, so
        that Serve replaces this replica."""
        self._work.check()
        if self._task.done():
            raise RuntimeError("the dispatcher's loops have ended")

    async def __del__(self) -> None:
        """Give every job back at its place with its checkpoints."""
        self._collecting.cancel()
        self._deciding.cancel()
        self._showing.cancel()
        self._saying.cancel()
        await self._dispatcher.stop()
        self._task.cancel()
        tasks = (
            self._task,
            self._collecting,
            self._deciding,
            self._showing,
            self._saying,
        )
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._work.close)
