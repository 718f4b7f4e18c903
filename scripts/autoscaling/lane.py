"""One lane of a running cluster from outside: ask it for pictures, look at its decoders and its
ledger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from scripts.cluster import KEY
from scripts.wire import ASYNC, GENERATIONS, Client
from serve_app.operate.serve_api import ServeApi

POLL_SECONDS = 0.1
MOST_TRIES, RETRY_SECONDS = 20, 1.0
"""Of an order while too many others are being written down."""


@dataclass(frozen=True, slots=True)
class Decoders:
    """At one look: how many are asked for, and how many run."""

    at: float
    target: int
    running: int


@dataclass(frozen=True)
class LiveLane:
    """api: its base URL. dsn: of its ledger. key, tenant: who asks."""

    serve: ServeApi
    application: str
    api: str
    dsn: str
    key: str = KEY
    tenant: str = "local"

    def decoders(self) -> Decoders:
        """Now. ClusterFailed when Serve does not answer."""
        found = self.deployment("Decoder")
        running = sum(replica["state"] == "RUNNING" for replica in found["replicas"])
        return Decoders(time.monotonic(), found["target_num_replicas"], running)

    def deployment(self, name: str) -> dict[str, Any]:
        """What Serve says about it."""
        application = self.serve.status()["applications"][self.application]
        found: dict[str, Any] = application["deployments"][name]
        return found

    def jobs(self) -> list[Job]:
        """Of this tenant, newest first."""
        with closing(SqlLedger(self.dsn)) as ledger:
            return ledger.recent(self.tenant, 100_000)

    async def submit(self, due: Sequence[float], quality: str = "medium") -> float:
        """An async job at each of these seconds from now; when that was (monotonic). Asks again for
        one that was not accepted yet, as clients do; RuntimeError when it is refused otherwise."""
        began = time.monotonic()
        with closing(Client(self.api, self.key)) as client:
            async with asyncio.TaskGroup() as group:
                for number, at in enumerate(due):
                    await asyncio.sleep(began + at - time.monotonic())
                    group.create_task(_order(client, number, quality))
        return began

    async def watch(self, seen: list[Decoders]) -> None:
        """Note every change of the decoders until cancelled."""
        while True:
            now = await asyncio.to_thread(self.decoders)
            if not seen or (now.target, now.running) != (seen[-1].target, seen[-1].running):
                seen.append(now)
            await asyncio.sleep(POLL_SECONDS)


async def _order(client: Client, number: int, quality: str) -> None:
    body = {"prompt": f"a red fox number {number}", "quality": quality}
    for _ in range(MOST_TRIES):
        reply = await client.ask("POST", GENERATIONS, json.dumps(body).encode(), ASYNC)
        if reply.status != 429:
            break
        await asyncio.sleep(RETRY_SECONDS)
    if reply.status != 202:
        raise RuntimeError(f"order {number} was answered {reply.status}: {reply.body[:300]!r}")
