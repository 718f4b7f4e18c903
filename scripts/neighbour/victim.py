"""A quiet tenant: asks for its own job and orders pictures at an even pace, whatever the service
does to others. A few orders are kept to see that they are drawn. Those that only measure are
another quiet tenant's and cancelled at once: a tenant's orders wait for its earlier ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

from jobs.job import TERMINAL
from scripts.load import at_rate
from scripts.wire import ASYNC, GENERATIONS, Client

GETS_PER_SECOND, ORDERS_PER_SECOND = 20.0, 4.0
KEEP_EVERY = 12
KEYS = ("sk-victim", "sk-probe")
"""Of the tenant whose orders are drawn, and of the one whose are cancelled."""


@dataclass(slots=True)
class Latencies:
    """Seconds from when a request was due to its answer, by kind. A broken one counts whole."""

    get: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Victim:
    """client, probe: of the two tenants. kept: ids of orders that must be drawn. wrong: answers
    other than 200 and 202, by kind."""

    client: Client
    probe: Client
    kept: list[str] = field(default_factory=list)
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)
    _number: int = 0

    async def measure(self, seconds: float) -> Latencies:
        """Ask and order for so long; every answer is waited for."""
        found = Latencies()
        mine = await self._order(self.client)
        begin = time.perf_counter()

        async def get(i: int) -> None:
            due = begin + i / GETS_PER_SECOND
            reply = await self.client.ask("GET", f"/v1/jobs/{mine}")
            found.get.append(time.perf_counter() - due)
            self._note("get", reply.status, 200)

        async def order(i: int) -> None:
            due, kept = begin + i / ORDERS_PER_SECOND, i % KEEP_EVERY == 0
            client = self.client if kept else self.probe
            job = await self._order(client)
            found.order.append(time.perf_counter() - due)
            if kept:
                self.kept.append(job)
            elif job:
                await client.ask("DELETE", f"/v1/jobs/{job}")

        await asyncio.gather(
            at_rate(GETS_PER_SECOND, seconds, get, finish=True),
            at_rate(ORDERS_PER_SECOND, seconds, order, finish=True),
        )
        return found

    async def unanswered(self, patience_seconds: float) -> int:
        """How many kept orders have no picture after so long."""
        until = time.monotonic() + patience_seconds
        waiting = list(self.kept)
        while waiting and time.monotonic() < until:
            states = [(job, await self._state(job)) for job in waiting]
            for _, state in states:
                if state in TERMINAL - {"succeeded"}:
                    self.wrong["drawn", 0] += 1
            waiting = [job for job, state in states if state != "succeeded"]
            await asyncio.sleep(1.0)
        return len(waiting)

    async def _state(self, job: str) -> str:
        reply = await self.client.ask("GET", f"/v1/jobs/{job}")
        return str(json.loads(reply.body)["state"]) if reply.status == 200 else ""

    def close(self) -> None:
        """Drop idle connections."""
        self.client.close()
        self.probe.close()

    async def _order(self, client: Client) -> str:
        self._number += 1
        wish = {"prompt": "a red fox", "size": "256x256", "quality": "low", "seed": self._number}
        reply = await client.ask("POST", GENERATIONS, json.dumps(wish).encode(), ASYNC)
        self._note("order", reply.status, 202)
        return reply.header("x-job-id")

    def _note(self, kind: str, status: int, right: int) -> None:
        if status != right:
            self.wrong[kind, status] += 1
