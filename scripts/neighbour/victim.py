"""A quiet tenant: asks for its own job and orders pictures at an even pace, whatever the service
does to others. Most orders are cancelled at once, a few are kept to see that they are drawn."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

from scripts.neighbour.abuses import ASYNC, GENERATIONS, at_rate
from scripts.overload.wire import Client

GETS_PER_SECOND, ORDERS_PER_SECOND = 20.0, 4.0
KEEP_EVERY = 12
ENDED = frozenset({"succeeded", "failed", "blocked", "cancelled", "expired"})


@dataclass(slots=True)
class Latencies:
    """Seconds from when a request was due to its answer, by kind. A broken one counts whole."""

    get: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Victim:
    """kept: ids of orders that must be drawn. wrong: answers other than 200 and 202, by kind."""

    client: Client
    kept: list[str] = field(default_factory=list)
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)
    _number: int = 0

    async def measure(self, seconds: float) -> Latencies:
        """Ask and order for so long; every answer is waited for."""
        found = Latencies()
        mine = await self._order()
        begin = time.perf_counter()

        async def get(i: int) -> None:
            due = begin + i / GETS_PER_SECOND
            reply = await self.client.ask("GET", f"/v1/jobs/{mine}")
            found.get.append(time.perf_counter() - due)
            self._note("get", reply.status, 200)

        async def order(i: int) -> None:
            due = begin + i / ORDERS_PER_SECOND
            job = await self._order()
            found.order.append(time.perf_counter() - due)
            if i % KEEP_EVERY == 0:
                self.kept.append(job)
            elif job:
                await self.client.ask("DELETE", f"/v1/jobs/{job}")

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
                if state in ENDED - {"succeeded"}:
                    self.wrong["drawn", 0] += 1
            waiting = [job for job, state in states if state != "succeeded"]
            await asyncio.sleep(1.0)
        return len(waiting)

    async def _state(self, job: str) -> str:
        reply = await self.client.ask("GET", f"/v1/jobs/{job}")
        return str(json.loads(reply.body)["state"]) if reply.status == 200 else ""

    async def _order(self) -> str:
        self._number += 1
        wish = {"prompt": "a red fox", "size": "256x256", "quality": "low", "seed": self._number}
        reply = await self.client.ask("POST", GENERATIONS, json.dumps(wish).encode(), ASYNC)
        self._note("order", reply.status, 202)
        return reply.header("x-job-id")

    def _note(self, kind: str, status: int, right: int) -> None:
        if status != right:
            self.wrong[kind, status] += 1
