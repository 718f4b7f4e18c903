"""A load generator for the HTTP API, on this machine only: Poisson arrivals that do not wait for
answers (open loop), or a fixed number of clients that do (closed loop).

    python -m scripts.load --rate 2 --count 100 --quality low medium high
    python -m scripts.load --clients 4 --count 100

Latency counts from the moment a request was *due*, so a slow server cannot hide its queue behind a
generator that fell behind. Bounded in requests and in time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from scripts.wire import GENERATIONS, JSON, Client

MOST_REQUESTS = 100_000
Body = dict[str, Any]
BodyFor = Callable[[int], Body]
Send = Callable[[int, float], Coroutine[Any, Any, None]]
"""Send request i, due at so many seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, in seconds since the run began. status: HTTP's, 0 when there was no answer.
    outcome: "ok", else the error's code, `http_` and the status, or "no answer"."""

    due: float
    sent: float
    finished: float
    status: int
    images: int
    outcome: str

    @property
    def latency(self) -> float:
        return self.finished - self.due


@dataclass(frozen=True, slots=True)
class LoadReport:
    """answers: in order of finishing. wall_seconds: first due to last answer. cpu_seconds: this
    process's own. unfinished: requests that the time limit cut off."""

    answers: tuple[Answer, ...]
    wall_seconds: float
    cpu_seconds: float
    unfinished: int

    @property
    def latencies(self) -> list[float]:
        """Seconds of every request that brought its images."""
        return [answer.latency for answer in self.answers if answer.outcome == "ok"]

    @property
    def images_per_s(self) -> float:
        return sum(answer.images for answer in self.answers) / max(self.wall_seconds, 1e-9)

    @property
    def steady_images_per_s(self) -> float:
        """The rate between the first and last tenth of the answers, not filling nor emptying."""
        edge = len(self.answers) // 10
        inner = self.answers[edge : len(self.answers) - edge]
        if len(inner) < 2:
            return self.images_per_s
        images = sum(answer.images for answer in inner[1:])
        return images / max(inner[-1].finished - inner[0].finished, 1e-9)

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON; percentiles are null when nothing succeeded."""
        done = self.latencies
        lag = max((answer.sent - answer.due for answer in self.answers), default=0.0)
        marks = {
            f"p{q}_seconds": round(percentile(done, q), 4) if done else None
            for q in (50, 90, 95, 99)
        }
        return {
            "requests": len(self.answers) + self.unfinished,
            "outcomes": dict(Counter(answer.outcome for answer in self.answers)),
            "unfinished": self.unfinished,
            "images": sum(answer.images for answer in self.answers),
            "wall_seconds": round(self.wall_seconds, 3),
            "images_per_s": round(self.images_per_s, 4),
            "steady_images_per_s": round(self.steady_images_per_s, 4),
            **marks,
            "largest_send_lag_seconds": round(lag, 4),
            "generator_cpu_seconds": round(self.cpu_seconds, 3),
        }


def percentile(values: Sequence[float], q: float) -> float:
    """Nearest rank: the smallest value that at least q percent of them do not exceed."""
    if not values or not 0 <= q <= 100:
        raise ValueError(f"percentile {q} of {len(values)} values")
    return sorted(values)[max(0, math.ceil(q / 100 * len(values)) - 1)]


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Seconds since the start at which requests are due, `rate` a second, without end."""
    draw = random.Random(seed)
    return itertools.accumulate(draw.expovariate(rate) for _ in itertools.count())


async def at_rate(
    per_second: float,
    seconds: float,
    send: Callable[[int], Awaitable[object]],
    *,
    finish: bool = False,
) -> None:
    """Send at an even pace without waiting for answers. Those open at the end are waited for with
    `finish`, else dropped."""
    begin, number = time.perf_counter(), 0
    tasks: set[asyncio.Task[object]] = set()
    while (due := begin + number / per_second) < begin + seconds:
        await asyncio.sleep(due - time.perf_counter())
        task = asyncio.ensure_future(send(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    left = list(tasks)
    if not finish:
        for task in left:
            task.cancel()
    await asyncio.gather(*left, return_exceptions=not finish)


async def run_load(
    base_url: str, key: str, rate: float, count: int, body_for: BodyFor,
    *, seed: int = 0, limit_seconds: float = 600.0,
) -> LoadReport:  # fmt: skip
    """Open loop: send `count` requests at Poisson times whether or not answers have come.
    body_for(i) is the JSON body of request i. ValueError for a server that is not loopback."""
    _check(base_url, count)
    if not 0 < rate < 10_000:
        raise ValueError(f"rate must be between 0 and 10,000 a second, got {rate}")

    async def send_all(send: Send, begin: float) -> None:
        async with asyncio.TaskGroup() as group:
            for i, due in zip(range(count), poisson_arrivals(rate, seed), strict=False):
                await asyncio.sleep(begin + due - time.perf_counter())
                group.create_task(send(i, due))

    return await _run(base_url, key, count, body_for, send_all, limit_seconds)


async def run_closed(
    base_url: str, key: str, clients: int, count: int, body_for: BodyFor,
    *, limit_seconds: float = 600.0,
) -> LoadReport:  # fmt: skip
    """Closed loop: `clients` requests under way at any time until `count` were sent."""
    _check(base_url, count)
    if not 0 < clients <= 1000:
        raise ValueError(f"clients must be between 1 and 1,000, got {clients}")

    async def send_all(send: Send, begin: float) -> None:
        numbers = iter(range(count))

        async def client() -> None:
            for i in numbers:
                await send(i, time.perf_counter() - begin)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())

    return await _run(base_url, key, count, body_for, send_all, limit_seconds)


async def _run(
    base_url: str, key: str, count: int, body_for: BodyFor,
    send_all: Callable[[Send, float], Coroutine[Any, Any, None]],
    limit_seconds: float,
) -> LoadReport:  # fmt: skip
    answers: list[Answer] = []
    client = Client(base_url, key)
    cpu, begin = time.process_time(), time.perf_counter()

    async def send(i: int, due: float) -> None:
        sent = time.perf_counter() - begin
        status, images, outcome = await _ask(client, body_for(i), 2 * limit_seconds)
        finished = time.perf_counter() - begin
        answers.append(Answer(due, sent, finished, status, images, outcome))

    with suppress(TimeoutError):  # what is missing shows as unfinished
        async with asyncio.timeout(limit_seconds):
            await send_all(send, begin)
    client.close()
    wall = max((answer.finished for answer in answers), default=time.perf_counter() - begin)
    used = time.process_time() - cpu
    return LoadReport(tuple(answers), wall, used, unfinished=count - len(answers))


async def _ask(client: Client, body: Body, seconds: float) -> tuple[int, int, str]:
    """Status, images, outcome. Parsing megabytes would take processor time from the server."""
    reply = await client.ask("POST", GENERATIONS, json.dumps(body).encode(), JSON, seconds)
    images = reply.body.count(b'"b64_json":') + reply.body.count(b'"url":')
    if reply.status == 200 and images:
        return 200, images, "ok"
    try:
        outcome = str(reply.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        outcome = f"http_{reply.status}" if reply.status else "no answer"
    return reply.status, 0, outcome


def _check(base_url: str, count: int) -> None:
    host = urlsplit(base_url).hostname or ""
    with suppress(ValueError):  # any other name
        host = "localhost" if ip_address(host).is_loopback else host
    if host != "localhost":
        raise ValueError(f"{base_url!r} is not on this machine; this generator only loads loopback")
    if not 0 < count <= MOST_REQUESTS:
        raise ValueError(f"count must be between 1 and {MOST_REQUESTS}, got {count}")


def mixed_bodies(prompts: Sequence[str], qualities: Sequence[str], size: str) -> BodyFor:
    """Bodies that walk through prompts and qualities (pass counts), each with its own seed."""
    return lambda i: {
        "prompt": prompts[i % len(prompts)],
        "quality": qualities[i % len(qualities)],
        "size": size,
        "seed": i,
    }


def pixels_digest(picture: str) -> str:
    """sha256 of what a picture in base64 shows: its file is another each time, as it is signed."""
    with Image.open(BytesIO(base64.b64decode(picture))) as whole:
        return hashlib.sha256(whole.tobytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Load the HTTP API of a server on this machine.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="sk-local")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--rate", type=float, help="open loop: requests a second")
    mode.add_argument("--clients", type=int, help="closed loop: requests under way")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600.0, help="give up after so long")
    parser.add_argument("--quality", nargs="+", default=["low", "medium", "high"])
    parser.add_argument("--prompt", nargs="+", default=["a red apple", "a koala", "a rocket"])
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--seed", type=int, default=0, help="of the arrival times")
    a = parser.parse_args()
    bodies = mixed_bodies(a.prompt, a.quality, a.size)
    if a.rate is not None:
        run = run_load(a.url, a.key, a.rate, a.count, bodies, seed=a.seed, limit_seconds=a.seconds)
    else:
        run = run_closed(a.url, a.key, a.clients, a.count, bodies, limit_seconds=a.seconds)
    print(json.dumps(asyncio.run(run).summary()))


if __name__ == "__main__":
    main()
