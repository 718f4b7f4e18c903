"""The whole service in one process, for a browser to look at: the real gateway, ledger, blobs and
dispatcher, and a real engine whose passes happen when the test says so. Only Ray is missing."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from autoscaling.lane_heat import LaneHeat
from autoscaling.recorder import LoadRecorder
from deployments.metrics.heat import HeatGauges
from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import DecoderMetrics, DispatchMetrics
from deployments.traces.reports import TracedDispatch, exporter_of, trace_pass
from dispatch.announcing import EVERY_SECONDS
from dispatch.dispatcher import Dispatcher
from dispatch.identity import read_identity
from dispatch.in_process import InProcessDecoders, InProcessReplica
from dispatch.ports import Classifier, Encoder
from dispatch.postprocess import InThreads, LocalPostprocessor
from dispatch.settings import DispatchSettings, Stages
from engine.capabilities import capabilities
from engine.decoder import Decoder
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.registry import create_decoder
from engine.render import Conditioning
from engine.scheduled_render import ScheduledRender
from engine.verdict import Verdict
from jobs.announcements import Announcement
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.history import DecoderCounts
from jobs.limit_levels import LimitLevel
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from serve_app.access.connections import ClientConnection
from serve_app.config.cluster import ClusterConfig, parse_cluster_config
from serve_app.delivery.tracing import RequestTraces
from serve_app.gateway import create_app
from serve_app.operate.local_cluster import free_port
from serve_app.wire.models import announcement

SLOTS = 4
CONFIG = {
    "model": {"name": "meltproof-paced", "family": "paced", "size": "256x256"},
    "decoder": {"slots": SLOTS},
    "provenance": "off",
    "gateway": {"keepalive_seconds": 1.0},
    "keys": [
        {"key": "sk-local", "tenant": "local"},
        {"key": "sk-ops", "tenant": "ops", "role": "operator"},
    ],
    "tiers": {"free": {"images_per_day": 100}},
    "temporary_limits": [
        {
            "above_seconds": 60,
            "below_seconds": 30,
            "tiers": {"free": {"images_per_day": 1, "concurrent_renders": 1}},
        }
    ],
}


class Pace:
    """How a pass passes: at once, or one for each `step` while it is held."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._allowed: float = float("inf")

    def hold(self) -> None:
        """No pass ends from now on."""
        with self._turn:
            self._allowed = 0

    def step(self, passes: int = 1) -> None:
        """Let that many more passes end."""
        with self._turn:
            self._allowed += passes
            self._turn.notify_all()

    def go(self) -> None:
        """Passes end by themselves again."""
        self.step(10**9)

    def sleep(self, _: float) -> None:
        """What the decoder calls in each pass."""
        with self._turn:
            self._turn.wait_for(lambda: self._allowed > 0)
            self._allowed -= 1


class WordEncoder:
    """A prompt's words as numbers, the same for the same prompt."""

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        prompt = words.prompt
        digest = hashlib.sha256(prompt.encode()).digest()
        pooled = np.frombuffer(digest * 12, np.uint8).astype(np.float16)
        conditioning = Conditioning.from_numpy(prompt, pooled=pooled)
        return EncodedPrompt(conditioning, pooled[None])


class WordScreen:
    """Refuses prompts with a bomb in them, and passes every picture."""

    async def screen_prompt(self, words: PromptText, embeddings: object, look: Look) -> Verdict:
        """A verdict on the words."""
        bad = any("bomb" in text for text in words.texts)
        return Verdict(bad, ("weapons",) if bad else ())

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        """A verdict on a picture."""
        return Verdict(blocked=False)


class AnnouncedServer(uvicorn.Server):
    """`up` is set once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self.up.set()


class Pipeline:
    """A service on a loopback port, on a thread of its own. A paced decoder keeps its pace.
    screen: the classifier. decoder: one that is loaded already, of the config's family.
    `streams_from`: the last event id of every event stream that was asked for, in order."""

    def __init__(
        self,
        directory: Path,
        settings: dict[str, Any] | None = None,
        screen: Classifier | None = None,
        encoder: Encoder | None = None,
        decoder: Decoder | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._decoder = decoder
        self._screen = screen or WordScreen()
        self._encoder = encoder or WordEncoder()
        self.pace = Pace()
        self.streams_from: list[str] = []
        self._directory = directory
        self._config: ClusterConfig = parse_cluster_config(
            {**(settings or CONFIG), "blobs": {"directory": str(directory / "blobs")}}
        )
        self._port = free_port()  # of which it is away for a moment when connections are dropped
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pipeline")
        self._thread.start()
        self._call(self._start())

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._port}/"

    def limit(self, level: int) -> None:
        """As a dispatcher decides that heats or cools the lane."""
        before, now = self._call(self._ledger.limit_level("default"))
        after = LimitLevel(level, now, "as the test wishes", read_at=now)
        assert self._call(self._ledger.move_limits("default", before, after))

    def announce(self, model: Announcement, *, ready: bool) -> None:
        """As a model's own dispatcher does, once; it is forgotten after 20 seconds."""
        self._call(self._ledger.announce(model, ready=ready))

    def newest(self) -> ImageRequest:
        """What was asked for last."""
        [job] = self._call(self._ledger.recent("local", 1))
        request: ImageRequest = job.request
        return request

    def forget_pictures(self) -> None:
        """Every stored file is gone."""
        shutil.rmtree(self._directory / "blobs")

    def drop_connections(self) -> None:
        """The gateway goes, and another one comes up at the same address; the rest goes on."""
        self.away(True)
        self.away(False)

    def away(self, gone: bool) -> None:
        """The gateway goes, or comes back; the rest goes on."""
        self._call(self._stop_http() if gone else self._start_http())

    def close(self) -> None:
        """End everything."""
        self.pace.go()
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(180)

    async def _start(self) -> None:
        self._blobs = DirectoryBlobs(self._directory / "blobs")
        self._ledger = AsyncLedger(SqlLedger(f"sqlite:///{self._directory}/ledger.db?timeout=60"))
        family, options = self._config.model.family, self._config.model.options
        own = {"sleep": self.pace.sleep} if family == "paced" else {"threads": 1}
        decoder, name = self._decoder, self._config.model.name
        self._of_decoder = DecoderMetrics(self._metrics, name, SLOTS)
        if decoder is None:
            decoder = await asyncio.to_thread(create_decoder, family, **options, **own)
        self._traces = exporter_of(self._config.traces.settings(), "pipeline")
        self._decoders = InProcessDecoders(InProcessReplica(decoder, SLOTS, passed=self._passed))
        can = capabilities(family, options)
        identity = read_identity(self._config.identity_files(), datetime.now(UTC))
        work = InThreads(2, can.cells, identity)
        postprocessor = LocalPostprocessor(self._blobs, work, can)
        metering = DispatchMetrics(self._metrics, name)
        if self._traces is not None:
            metering = TracedDispatch(self._metrics, name, self._traces)
        stages = Stages(self._encoder, self._screen, self._decoders, postprocessor, metering)
        screen_at = self._config.safety.screen_at
        settings = DispatchSettings("default", heartbeat_seconds=0.05, screen_at=screen_at, can=can)
        self._dispatcher = Dispatcher(self._ledger, stages, settings, worker="page")
        self._running = asyncio.create_task(self._dispatcher.run())
        model = replace(announcement(self._config), capabilities=asdict(can))
        await self._ledger.announce(model, ready=True)
        self._announcing = asyncio.create_task(self._announce(model))
        heat = LaneHeat(self._ledger, "default")
        recorder = LoadRecorder(self._ledger, heat, "default", lambda: DecoderCounts(1, 0))
        gauges = HeatGauges(
            self._metrics, heat, "default", name, self._config.tiers, self._show_slots
        )
        self._gauging = asyncio.create_task(gauges.run())
        self._recording = asyncio.create_task(recorder.run())
        await self._start_http()

    def _passed(self, batch: Sequence[ScheduledRender], seconds: float) -> None:
        self._of_decoder.passed(batch, seconds)
        if self._traces is not None:
            trace_pass(self._traces, "here", batch, seconds)

    def _show_slots(self) -> bool:
        self._of_decoder.show_slots(self._decoders.replicas[0].engine.running)
        return False

    async def _announce(self, model: Announcement) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._ledger.announce(model, ready=True)

    async def _start_http(self) -> None:
        app = create_app(self._ledger, self._blobs, self._config, metrics=self._metrics)
        if self._traces is not None:
            app.add_middleware(RequestTraces, exporter=self._traces)

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            if scope.get("path", "").endswith("/events"):
                headers = dict(scope["headers"])
                self.streams_from.append(headers.get(b"last-event-id", b"").decode())
            await app(scope, receive, send)

        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._server = AnnouncedServer(
            uvicorn.Config(
                watched,
                http=ClientConnection,
                log_level="critical",
                timeout_graceful_shutdown=0,
                lifespan="on",
            )
        )
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await self._server.up.wait()

    async def _stop_http(self) -> None:
        self._server.should_exit = True  # streams are cut, not waited for
        await self._serving

    async def _stop(self) -> None:
        await self._stop_http()
        await self._dispatcher.stop()
        self._running.cancel()
        self._announcing.cancel()
        self._recording.cancel()
        self._gauging.cancel()
        tasks = self._running, self._announcing, self._recording, self._gauging
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._decoders.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        await asyncio.to_thread(self._ledger.close)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # a server that was forced to exit leaves some behind
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
