"""A dispatcher replica: hosts `dispatch.dispatcher` on the replica's event loop, no more."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ray.serve.handle import DeploymentHandle

from autoscaling.lane_heat import LaneHeat
from autoscaling.limits import Threshold, thresholds_of
from autoscaling.recorder import LoadRecorder
from autoscaling.temporary_limits import TemporaryLimits
from deployments import loopback
from deployments.decoder_presence import DecoderPresence
from deployments.local_stages import LocalOptions, LocalStages
from deployments.logs import install_logs
from deployments.metrics.catalogue import CERTIFICATE_EXPIRES, Part
from deployments.metrics.heat import HeatGauges
from deployments.metrics.reports import DispatchMetrics, started
from deployments.node_metrics import metrics_of_node
from deployments.nodes import alive_nodes
from deployments.ports import RemoteClassifier, RemoteEncoder
from deployments.safety import policy_in
from deployments.slots import DecoderSlots
from deployments.telemetry import TELL_NOTHING, Telemetry
from deployments.traces.reports import TracedDispatch, exporter_of
from deployments.transport import by_grpc, take_large_messages
from dispatch.announcing import Announcing
from dispatch.dispatcher import Dispatcher
from dispatch.identity import IdentityFiles, read_identity
from dispatch.metering import Metering
from dispatch.ports import Postprocessor
from dispatch.postprocess import InProcesses, LocalPostprocessor
from dispatch.settings import DispatchSettings, Stages
from engine.capabilities import OWN, capabilities, enlarger_folder, weights_identity
from jobs.announcements import Announcement
from jobs.blobs.collector import Collector
from jobs.blobs.opening import check_store, open_store
from jobs.blobs.places import BlobPlace
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import check_place
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier

take_large_messages()

loopback.install()

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Where the ledger and the blobs are, and how long to wait for other stages."""

    dsn: str
    blobs: BlobPlace
    tiers: dict[str, Tier]
    thresholds: tuple[Threshold, ...]
    least_share: float
    retention: Retention
    model: Announcement
    """But for what is read of its files here."""
    identity: IdentityFiles
    """What pictures are marked and signed with."""
    family_options: dict[str, Any]
    local: LocalOptions
    finishing_threads: int = 1
    enlarger: str = OWN
    """See engine.capabilities.enlarger_folder."""
    pass_timeout_seconds: float = 30.0
    """For one pass of a decoder."""
    telemetry: Telemetry = TELL_NOTHING


class DispatcherReplica:
    """Claims, dispatches, beats, rescues and forgets for as long as it lives.

    stages: handles of the decoder, and of the encoder and the classifier unless they are local.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        settings: DispatchSettings,
        options: DispatcherOptions,
        stages: dict[str, DeploymentHandle],
    ) -> None:
        began = time.monotonic()
        stages = by_grpc(stages)
        install_logs(options.telemetry.logs, "dispatcher")
        self._traces = exporter_of(options.telemetry.traces, "dispatcher")
        self._metrics = await asyncio.to_thread(metrics_of_node, options.telemetry.metrics)
        self._options = options
        self._ledger = AsyncLedger(await asyncio.to_thread(_ledger_of, options, settings))
        blobs = open_store(options.blobs)
        family = options.model.family, options.family_options
        can = capabilities(*family)
        enlarger = enlarger_folder(options.enlarger, *family)
        marks = await asyncio.to_thread(read_identity, options.identity, datetime.now(UTC))
        self._work, self._local = await asyncio.gather(
            InProcesses.start(options.finishing_threads, can.cells, marks, enlarger),
            LocalStages.start(options.local, self._metrics, options.model.name),
        )
        self._dispatcher = Dispatcher(
            self._ledger,
            self._stages(stages, LocalPostprocessor(blobs, self._work, can)),
            replace(settings, can=can),
            worker=f"{os.getpid()}-{uuid.uuid4().hex[:8]}",
        )
        self._task = asyncio.create_task(self._dispatcher.run())
        identity = weights_identity(*family)
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
        self._showing = asyncio.create_task(self._show_load(settings.lane))
        if (expires_at := marks.expires_at) is not None:
            self._metrics.show(CERTIFICATE_EXPIRES, value=expires_at)
        started(self._metrics, Part.DISPATCHER, options.model.name, time.monotonic() - began)

    def _stages(
        self, handles: Mapping[str, DeploymentHandle], postprocessor: Postprocessor
    ) -> Stages:
        return Stages(
            encoder=self._local.encoder or RemoteEncoder(handles["encoder"]),
            classifier=self._local.classifier or RemoteClassifier(handles["classifier"]),
            decoders=DecoderSlots(handles["decoder"], self._options.pass_timeout_seconds),
            postprocessor=postprocessor,
            metering=self._metering(self._options.model.name),
        )

    def _metering(self, model: str) -> Metering:
        if self._traces is None:
            return DispatchMetrics(self._metrics, model)
        return TracedDispatch(self._metrics, model, self._traces)

    async def _show_load(self, queue: str) -> None:
        """As metrics, and in the ledger."""
        heat = LaneHeat(self._ledger, queue)
        recorder = LoadRecorder(self._ledger, heat, queue, self._announcing.decoders)
        model, announcing = self._options.model.name, self._announcing
        gauges = HeatGauges(
            self._metrics, heat, queue, model, self._options.tiers,
            lambda: not announcing.available,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(gauges.run())
            group.create_task(recorder.run())

    def reconfigure(self, live: dict[str, Any]) -> None:
        """Tiers, temporary limits, and the policy of a local classifier, of an edited config file,
        without a restart; those of the start where it names none."""
        tiers = {name: Tier(**tier) for name, tier in (live.get("tiers") or {}).items()}
        thresholds = live.get("temporary_limits")
        self._limits.adopt(
            tiers or self._options.tiers,
            self._options.thresholds if thresholds is None else thresholds_of(thresholds),
        )
        self._local.adopt(policy_in(live))

    def announce(self, model: Announcement) -> None:
        """Other terms of the same model from now on."""
        self._announcing.say(replace(model, **self._read))

    async def check_health(self) -> None:
        """Raises when the dispatcher's loops have ended, or no process for pixels or of a local
        stage starts, so that Serve replaces this replica."""
        self._work.check()
        self._local.check()
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
        await asyncio.to_thread(self._local.close)
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)


def _ledger_of(options: DispatcherOptions, settings: DispatchSettings) -> SqlLedger:
    """Open, and of this store."""
    check_place(options.dsn, alive_nodes())
    ledger = SqlLedger(
        options.dsn,
        tiers=options.tiers,
        least_share=options.least_share,
        attempts_max=settings.attempts,
    )
    check_store(ledger, options.blobs)
    return ledger
