"""A real gateway on a loopback port over a real ledger and store, and a small scripted worker."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from PIL import Image

from deployments.metrics.recorder import Metrics
from deployments.metrics.shared_values import SharedValues
from jobs.blobs.store import BlobStore, DirectoryBlobs, image_key, preview_key
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import open_database
from jobs.job import Job, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.ledger_errors import LeaseLost
from jobs.request import preview_passes
from jobs.sql.sql_ledger import SqlLedger
from serve_app.access.connections import ClientConnection
from serve_app.config.cluster import ClusterConfig, parse_cluster_config
from serve_app.gateway import create_app
from tests.stages.ledger_kit import PATIENCE_SECONDS, wait_until

LEASE_SECONDS = 600.0


def config(**sections: Any) -> ClusterConfig:
    """Two tenants without limits, of whose invalid orders none is too many, and a poor one with two
    images a day."""
    limits = {"refused_per_second": 1e6, **sections.pop("limits", {"body_bytes": 50_000})}
    return parse_cluster_config(
        {
            "model": {"name": "test-model", "size": "64x64"},
            "tiers": {"free": {}, "poor": {"images_per_day": 2}},
            "keys": [
                {"key": "sk-local", "tenant": "local"},
                {"key": "sk-other", "tenant": "other"},
                {"key": "sk-poor", "tenant": "poor", "tier": "poor"},
            ],
            "limits": limits,
            **sections,
        }
    )


def drawn(job: Job, index: int) -> bytes:
    """What the worker draws: one colour that depends on the seed."""
    seed = job.request.image_seed(index)
    colour = (seed % 256, seed // 256 % 256, 120)
    out = io.BytesIO()
    picture = Image.new("RGB", (job.request.width, job.request.height), colour)
    picture.save(out, job.request.output_format)
    return out.getvalue()


class Worker(threading.Thread):
    """Claims and settles jobs. Words of the prompt say how: `unsafe`, `second is unsafe`,
    `broken`; `stepwise` waits for `steps` before every preview and before the end."""

    def __init__(self, url: str, blobs: BlobStore, queues: Sequence[str]) -> None:
        super().__init__(name="worker", daemon=True)
        self.queues = list(queues)
        self._ledger = SqlLedger(url)
        self._blobs = blobs
        self._stopped = threading.Event()
        self._paused = False
        self._turn = threading.Lock()
        self.steps = threading.Semaphore(0)
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Until stopped."""
        while not self._stopped.wait(0.002):
            with self._turn:
                if not self._paused:
                    self._claim()
        self._ledger.close()

    def pause(self) -> None:
        """It takes no job any more; what it has begun is done."""
        with self._turn:
            self._paused = True

    def resume(self) -> None:
        """It takes jobs again."""
        self._paused = False

    def stop(self) -> None:
        """End the thread; whatever failed in it fails the test."""
        self._stopped.set()
        self.steps.release(100)
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        assert not self.errors

    def _claim(self) -> None:
        claims = [self._ledger.claim(one, "worker", 1, LEASE_SECONDS) for one in self.queues]
        for job in chain.from_iterable(claims):
            try:
                self._work(job)
            except LeaseLost:
                continue  # cancelled meanwhile
            except Exception as error:  # noqa: BLE001 - the test asks for it at the end
                self.errors.append(error)

    def _work(self, job: Job) -> None:
        for render in job.renders:
            outcome = self._outcome(job, render.index)
            self._ledger.finish_render(job.id, job.fence, render.index, outcome)

    def _outcome(self, job: Job, index: int) -> Outcome:
        prompt = job.request.prompt
        if "second is unsafe" in prompt:
            if index == 1:
                return Outcome(RenderState.BLOCKED, categories=("weapons",), stage="output")
        elif "unsafe" in prompt:
            return Outcome(RenderState.BLOCKED, categories=("sexual",), stage="input")
        if "broken" in prompt:
            return Outcome(RenderState.FAILED, error="the decoder gave up")
        self._previews(job, index)
        key = image_key(job.id, index, job.fence, job.request.output_format)
        self._blobs.put(key, drawn(job, index), durable=False)
        tokens = f"tokens of {job.request.image_seed(index)}".encode()
        return Outcome(RenderState.SUCCEEDED, blob=key, checkpoint=tokens)

    def _previews(self, job: Job, index: int) -> None:
        done: list[int] = []
        for pass_no in preview_passes(job.request.passes, job.request.partial_images):
            self._step(job)
            key = preview_key(job.id, index, pass_no, job.request.output_format)
            self._blobs.put(key, drawn(job, index), durable=False)
            done.append(pass_no)
            beat = RenderBeat(index, RenderState.RENDERING, pass_no, b"checkpoint", tuple(done))
            self._ledger.renew([Beat(job.id, job.fence, (beat,))], LEASE_SECONDS)
        self._step(job)

    def _step(self, job: Job) -> None:
        if "stepwise" in job.request.prompt:
            self.steps.acquire()


@dataclass(frozen=True)
class Stage:
    """A running gateway. `ledger` and `blobs` look at the same truth from the outside."""

    url: str
    ledger: SqlLedger
    blobs: BlobStore
    worker: Worker
    config: ClusterConfig
    gateway_ledger: AsyncLedger
    database: str
    app: FastAPI
    metrics: SharedValues
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": "Bearer sk-local"})

    def jobs(self, tenant: str = "local") -> list[Job]:
        """Everything that tenant ever submitted here."""
        return self.ledger.recent(tenant, 1000)

    def rows(self) -> dict[str, int]:
        """How many rows each table holds. Unlike the ledger's version it stays the same while the
        worker and the watchers of earlier requests are still at work."""
        with closing(open_database(self.database)) as database, database.reader.begin() as reader:
            return {
                name: reader.exec_driver_sql(f"select count(*) from {name}").scalar_one()
                for name in ("jobs", "renders", "flows", "quota", "tenants")
            }


def newest(running: Stage, tenant: str = "local") -> Job:
    """What the tenant submitted last."""
    return running.ledger.recent(tenant, 1)[0]


def left_alone(running: Stage, body: bytes, path: str, content_type: str) -> Job:
    """The job of somebody who asks for it, and hangs up as soon as it is accepted."""
    before, where = {job.id for job in running.jobs()}, urlsplit(running.url)
    fields = {**running.headers, "host": "x", "content-type": content_type}
    fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection((where.hostname, where.port)) as leaving:
        leaving.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        wait_until(lambda: {job.id for job in running.jobs()} > before, "it is accepted")
    return newest(running)


@contextmanager
def stage(
    directory: Path,
    settings: ClusterConfig,
    database: str | None = None,
    *,
    alone: bool = False,
    store: BlobStore | None = None,
) -> Iterator[Stage]:
    """Everything up; everything down again at the end. database: its URL, if not a new file.
    alone: a gateway that knows only the models that are announced. store: if not a directory."""
    url = database or f"sqlite:///{directory}/ledger.db?timeout={PATIENCE_SECONDS}"
    days = settings.quota.days()
    gateway_ledger = AsyncLedger(SqlLedger(url, tiers=settings.tier_promises(), days=days))
    blobs = store or DirectoryBlobs(directory / "blobs")
    worker = Worker(url, blobs, [one.queue for one in settings.each()])
    outside = SqlLedger(url)
    values = SharedValues(directory / "metrics")
    worker.start()
    try:
        app = create_app(gateway_ledger, blobs, settings, alone=alone, metrics=Metrics(values))
        with _serving(app) as address:
            yield Stage(address, outside, blobs, worker, settings, gateway_ledger, url, app, values)
    finally:
        worker.stop()
        gateway_ledger.close()
        outside.close()
        values.close()


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http=ClientConnection,
            log_level="warning",
            proxy_headers=False,
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
