"""Clients of the HTTP API, which try again as the openai SDK does: on broken connections and on
5xx, with the same Idempotency-Key, but longer. They write down what they were told."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from base64 import b64decode
from collections import Counter
from typing import Any

import httpx

from scripts.bench.sides import KEY
from scripts.bench.workload import PROMPTS
from scripts.chaos.world import World

PATH = "/v1/images/generations"
PATIENCE_SECONDS = 150.0
ENDED = frozenset({"succeeded", "failed", "blocked", "cancelled", "expired"})


class HttpClients:
    """A crowd. errors: answers of 5xx and broken connections, by what they said."""

    def __init__(self, world: World, url: str) -> None:
        self._log = world.log("told")
        self._url = url
        self._draw = random.Random(0)
        self._count = 0
        self.stop = False
        self.errors: Counter[str] = Counter()

    async def run(self, users: int) -> None:
        """Until `stop`, and what was begun is seen to its end."""
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            httpx.AsyncClient(
                base_url=self._url, headers=headers, timeout=60.0, trust_env=False
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(users):
                group.create_task(self._user(http, later=number % 3 > 0))

    async def _user(self, http: httpx.AsyncClient, *, later: bool) -> None:
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
            headers = {"idempotency-key": key} | ({"prefer": "respond-async"} if later else {})
            answer = await self._ask(http, "POST", PATH, headers=headers, json=body)
            if answer is None or answer.status_code not in (200, 202):
                said = None if answer is None else f"{answer.status_code} {answer.text[:300]}"
                self._log.note("wrong", error=f"{key}: {said}")
            elif later:
                await self._follow(http, key, answer.json())
            else:
                pictures = [b64decode(item["b64_json"]) for item in answer.json()["data"]]
                self._log.note("drawn", key=key, digests=[_digest(p) for p in pictures])

    async def _follow(self, http: httpx.AsyncClient, key: str, job: dict[str, Any]) -> None:
        self._log.note("accepted", job=job["id"], n=job["n"], key=key)
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            answer = await self._ask(http, "GET", f"/v1/jobs/{job['id']}")
            if answer is None or answer.status_code != 200:
                self._log.note("wrong", error=f"job {job['id']}: {answer and answer.text[:300]}")
                return
            job = answer.json()
            if job["state"] in ENDED:
                images = [image["state"] for image in job["images"]]
                self._log.note("ended", job=job["id"], state=job["state"], images=images)
                return
            await asyncio.sleep(0.3)
        self._log.note("wrong", error=f"job {job['id']} is still {job['state']}")

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, **rest: Any
    ) -> httpx.Response | None:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                answer = await http.request(method, path, **rest)
            except httpx.HTTPError as error:
                self.errors[type(error).__name__] += 1
            else:
                if answer.status_code < 500:
                    return answer
                self._note_refusal(answer)
            await asyncio.sleep(self._draw.uniform(0.2, 1.0))
        return None

    def _note_refusal(self, answer: httpx.Response) -> None:
        """503 is documented: the ledger cannot write, or the gateway and the one after it were
        killed. Any other is wrong."""
        self.errors[f"{answer.status_code} {answer.text[:40]}"] += 1
        if answer.status_code != 503:
            self._log.note("wrong", error=f"{answer.status_code} {answer.text[:200]}")
        if "ledger" in answer.text:
            self._log.note("unavailable", error=answer.text[:200])


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()
