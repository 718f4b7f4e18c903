"""The clients of the flood: tenants of two tiers that order and mostly leave, some that wait or
watch a stream, and some that keep asking how their jobs are."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from scripts.chaos.world import Log
from scripts.load import at_rate
from scripts.wire import ASYNC, GENERATIONS, Client

PATIENCE_SECONDS = 20.0
"""Then a client that waits, or watches a stream, leaves."""
WAITING_SHARE = 0.04
STREAMING_SHARE = 0.04
PAID_SHARE = 0.04
POLLS_PER_SECOND = 10.0
PROMPTS = ("a red apple on a table", "a koala in a tree", "a rocket at night, watercolour")

KEYS = {"free": [f"sk-free-{i}" for i in range(6)], "plus": [f"sk-plus-{i}" for i in range(2)]}


@dataclass(slots=True)
class Clients:
    """accepts: seconds from when an async order was due to its durable id. statuses: of every
    answer, by kind; 0 is a connection that broke. told: every accepted id is written here."""

    url: str
    told: Log
    seed: int = 0
    accepts: list[float] = field(default_factory=list)
    stream_starts: list[float] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    largest_lag_seconds: float = 0.0
    _clients: dict[str, Client] = field(default_factory=dict)
    _newest: dict[str, str] = field(default_factory=dict)
    _number: int = 0

    async def order(self, count: int, per_second: float) -> None:
        """So many async orders of free tenants at an even pace, each answered before the end."""
        begin, keys = time.perf_counter(), KEYS["free"]

        async def one(i: int) -> None:
            await self._async(keys[i % len(keys)], begin + i / per_second)

        await at_rate(per_second, count / per_second, one, finish=True)

    async def flood(self, per_second: float, seconds: float) -> None:
        """Poisson arrivals that wait for nobody; returns when those that can end have ended."""
        draw = random.Random(self.seed)
        begin = due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(at_rate(POLLS_PER_SECOND, seconds, self._poll, finish=True))
            while (due := due + draw.expovariate(per_second)) < begin + seconds:
                await asyncio.sleep(due - time.perf_counter())
                self.largest_lag_seconds = max(self.largest_lag_seconds, time.perf_counter() - due)
                key = draw.choice(KEYS["plus" if draw.random() < PAID_SHARE else "free"])
                kind = draw.random()
                if kind < WAITING_SHARE:
                    group.create_task(self._waiting(key))
                elif kind < WAITING_SHARE + STREAMING_SHARE:
                    group.create_task(self._streaming(key, due))
                else:
                    group.create_task(self._async(key, due))

    def close(self) -> None:
        """Drop idle connections."""
        for client in self._clients.values():
            client.close()

    def _client(self, key: str) -> Client:
        return self._clients.setdefault(key, Client(self.url, key))

    def _body(self, **more: object) -> bytes:
        self._number += 1
        prompt = PROMPTS[self._number % len(PROMPTS)]
        wish = {"prompt": prompt, "quality": "low", "size": "256x256", "seed": self._number}
        return json.dumps({**wish, **more}).encode()

    async def _async(self, key: str, due: float) -> None:
        reply = await self._client(key).ask("POST", GENERATIONS, self._body(), ASYNC)
        self.statuses["async", reply.status] += 1
        if reply.status == 202:
            self.accepts.append(time.perf_counter() - due)
            self._accepted(key, reply.header("x-job-id"))

    async def _waiting(self, key: str) -> None:
        asking = self._client(key).ask("POST", GENERATIONS, self._body(), "", seconds=3600)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reply = await asking
        except TimeoutError:
            self.statuses["waiting, left", 200] += 1
            return
        self.statuses["waiting", reply.status] += 1
        if reply.status == 200:
            self._accepted(key, reply.header("x-job-id"))

    async def _streaming(self, key: str, due: float) -> None:
        """Reads the stream as it comes; leaves at its end or when patience does."""
        started = False

        def on_head(status: int, job_id: str) -> None:
            nonlocal started
            started = True
            self.statuses["stream", status] += 1
            if status == 200:
                self.stream_starts.append(time.perf_counter() - due)
                self._accepted(key, job_id)

        body = self._body(stream=True, partial_images=1)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._client(key).stream(GENERATIONS, body, on_head)
        if not started:
            self.statuses["stream", 0] += 1

    def _accepted(self, key: str, job_id: str) -> None:
        self._newest[key] = job_id
        self.told.note("accepted", job=job_id, key=job_id, n=1)

    async def _poll(self, number: int) -> None:
        if self._newest:
            key, job_id = list(self._newest.items())[number % len(self._newest)]
            reply = await self._client(key).ask("GET", f"/v1/jobs/{job_id}")
            self.statuses["poll", reply.status] += 1
