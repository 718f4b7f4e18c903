"""Clients of the HTTP API, which try again as the openai SDK does: on broken connections and on
5xx, with the same Idempotency-Key, but longer. They write down what they were told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from base64 import b64decode
from collections import Counter
from typing import Any

from jobs.job import TERMINAL
from scripts.bench.workload import PROMPTS
from scripts.chaos.world import World
from scripts.cluster import KEY
from scripts.wire import ASYNC, GENERATIONS, JSON, Client, Reply

PATIENCE_SECONDS = 150.0


class HttpClients:
    """Many at once. errors: answers of 5xx and broken connections, by what they said."""

    def __init__(self, world: World, url: str) -> None:
        self._log = world.log("told")
        self._client = Client(url, KEY)
        self._draw = random.Random(0)
        self._count = 0
        self.stop = False
        self.errors: Counter[str] = Counter()

    async def run(self, users: int) -> None:
        """Until `stop`, and what was begun is seen to its end."""
        async with asyncio.TaskGroup() as group:
            for number in range(users):
                group.create_task(self._user(later=number % 3 > 0))
        self._client.close()

    async def _user(self, *, later: bool) -> None:
        while not self.stop:
            self._count += 1
            key = f"http-{self._count}"
            body = {
                "prompt": self._draw.choice(PROMPTS),
                "quality": self._draw.choice(("low", "medium", "high")),
                "n": self._draw.choice((1, 1, 2)),
                "size": "256x256",
                "seed": 1000 * self._count + 1,
            }
            headers = f"idempotency-key: {key}\r\n{ASYNC if later else JSON}"
            answer = await self._ask("POST", GENERATIONS, json.dumps(body).encode(), headers)
            if answer.status not in (200, 202):
                self._log.note("wrong", error=f"{key}: {answer.status} {_text(answer)}")
            elif later:
                await self._follow(key, answer.json())
            else:
                pictures = [b64decode(item["b64_json"]) for item in answer.json()["data"]]
                self._log.note("drawn", key=key, digests=[_digest(p) for p in pictures])

    async def _follow(self, key: str, job: dict[str, Any]) -> None:
        self._log.note("accepted", job=job["id"], n=job["n"], key=key)
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            answer = await self._ask("GET", f"/v1/jobs/{job['id']}")
            if answer.status != 200:
                self._log.note("wrong", error=f"job {job['id']}: {answer.status} {_text(answer)}")
                return
            job = answer.json()
            if job["state"] in TERMINAL:
                images = [image["state"] for image in job["images"]]
                self._log.note("ended", job=job["id"], state=job["state"], images=images)
                return
            await asyncio.sleep(0.3)
        self._log.note("wrong", error=f"job {job['id']} is still {job['state']}")

    async def _ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Reply:
        """The first answer that is no 5xx, else the last one."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = await self._client.ask(method, path, body, headers)
            if 0 < answer.status < 500 or time.monotonic() > until:
                return answer
            self._note_refusal(answer)
            await asyncio.sleep(self._draw.uniform(0.2, 1.0))

    def _note_refusal(self, answer: Reply) -> None:
        """503 is documented: the ledger cannot write, or the gateway and the one after it were
        killed. Any other is wrong."""
        said = f"{answer.status} {_text(answer)}"
        self.errors[said[:44] if answer.status else "no answer"] += 1
        if answer.status not in (0, 503):
            self._log.note("wrong", error=said)
        if b"ledger" in answer.body:
            self._log.note("unavailable", error=said)


def _text(answer: Reply) -> str:
    return answer.body[:300].decode(errors="replace")


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()
