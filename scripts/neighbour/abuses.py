"""The abuses, by name. Each uses one tenant's key, sends only what a client may send, and only to
the service on this machine. Rates are those that the default limits allow, or a plain client's.

    python -m scripts.neighbour.abuses URL ABUSE SECONDS

is one abuse in a process of its own: prepares, says "ready", attacks for a number of seconds after
a line on standard input, and prints the statuses that it was answered with as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from scripts.load import at_rate
from scripts.neighbour.payloads import POISON_PROMPTS, form_of_two, large_edit, many_fields
from scripts.wire import ASYNC, EDITS, GENERATIONS, Client, Reply

LIST_JOBS, LIST_IMAGES, LIST_PROMPT = 100, 10, "a red apple on a table " * 340
POLLS_PER_SECOND = 45.0
STREAMS = 4_000
WAITS_BEHIND = 30
"""Jobs of ten images each of the same tenant: the one that is watched waits all the while."""
MOST_REFUSED = 300
LARGE = {"prompt": "a corner", "size": "3840x2160", "n": "10", "quality": "low"}
LARGE_SOURCE = (1920, 1080)
LARGE_AT_ONCE = 3
LARGE_ANSWER_BYTES = 100 * 2**20
DRAW_SECONDS = 240.0
UPLOAD_BYTES = 2 * 2**20
SLOW_HEADS = 500
POLICY = os.SCHED_IDLE
"""The generator shares two processors with the service; what it costs itself is no abuse. Ray runs
its workers at niceness 15, so that any other positive niceness would still come before them."""


@dataclass(slots=True)
class Attack:
    """One abuser's connections and what it was answered."""

    url: str
    key: str
    statuses: Counter[int] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)
    open: list[asyncio.StreamWriter] = field(default_factory=list)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.url, self.key)

    async def post(self, path: str, body: bytes, headers: str, seconds: float = 60.0) -> Reply:
        """One request, counted by its status."""
        reply = await self.client.ask("POST", path, body, headers, seconds)
        self.statuses[reply.status] += 1
        if reply.status == 202:
            self.orders.append(reply.header("x-job-id"))
        return reply

    async def order(self, prompt: str, **more: object) -> Reply:
        """An asynchronous order of one small picture."""
        wish = {"prompt": prompt, "size": "256x256", "quality": "low", **more}
        return await self.post(GENERATIONS, json.dumps(wish).encode(), ASYNC)

    async def get(self, path: str) -> Reply:
        """One question, counted by its status."""
        reply = await self.client.ask("GET", path)
        self.statuses[reply.status] += 1
        return reply

    async def close(self) -> None:
        """Drop every connection and cancel what was ordered: the next abuse has its own queue."""
        for writer in self.open:
            writer.transport.abort()
        await at_rate(
            POLLS_PER_SECOND,
            len(self.orders) / POLLS_PER_SECOND,
            lambda i: self.client.ask("DELETE", f"/v1/jobs/{self.orders[i]}"),
            finish=True,
        )
        self.client.close()


Step = Callable[[Attack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Abuse:
    """prepare: what stands before the measurement. attack: for so many seconds."""

    prepare: Step
    attack: Callable[[Attack, float], Awaitable[None]]


async def _nothing(attack: Attack) -> None:
    return None


async def _poison(attack: Attack, seconds: float) -> None:
    await at_rate(5, seconds, lambda i: attack.order(POISON_PROMPTS[i % len(POISON_PROMPTS)]))


async def _fields(attack: Attack, seconds: float) -> None:
    body = many_fields(60_000)
    await at_rate(6, seconds, lambda i: attack.post(GENERATIONS, body, ASYNC))


async def _fill_list(attack: Attack) -> None:
    for _ in range(LIST_JOBS):
        await attack.order(LIST_PROMPT, n=LIST_IMAGES)


async def _lists(attack: Attack, seconds: float) -> None:
    await at_rate(POLLS_PER_SECOND, seconds, lambda i: attack.get("/v1/jobs?limit=100"))


async def _open_streams(attack: Attack) -> None:
    """As many streams on one waiting job as the service admits; gives up once it refuses."""
    refused = 0
    for _ in range(WAITS_BEHIND):
        await attack.order("a job before it", n=LIST_IMAGES)
    await attack.order("a job that waits")
    job = attack.orders[-1]
    begin = time.perf_counter()
    for number in range(STREAMS):
        await asyncio.sleep(begin + number / POLLS_PER_SECOND - time.perf_counter())
        status = await open_stream(attack, f"/v1/jobs/{job}/events")
        refused += status != 200
        if refused > MOST_REFUSED:
            return


async def _hold_streams(attack: Attack, seconds: float) -> None:
    """Held open, and more asked for all the while."""
    path = f"/v1/jobs/{attack.orders[-1]}/events"
    await at_rate(20, seconds, lambda i: open_stream(attack, path))


async def open_stream(attack: Attack, path: str) -> int:
    """Open one event stream and keep it; its status."""
    reader, writer = await _connect(attack)
    head = f"GET {path} HTTP/1.1\r\nhost: {urlsplit(attack.url).netloc}\r\n"
    writer.write(f"{head}authorization: Bearer {attack.key}\r\n\r\n".encode())
    status = 0
    with suppress(OSError, asyncio.IncompleteReadError, ValueError):
        status = int((await reader.readuntil(b"\r\n"))[9:12])
    attack.statuses[status] += 1
    if status == 200:
        drain = asyncio.ensure_future(_drain(reader))
        drain.add_done_callback(lambda _: None)
    return status


async def _drain(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(1 << 16):
            pass


async def _connect(attack: Attack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(attack.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    attack.open.append(writer)
    return reader, writer


async def _ask_large(attack: Attack, seconds: float) -> int:
    """Edits of noise, ten large pictures that hardly compress; asked again, the answer is made of
    what is stored. Returns its bytes."""
    body, head = large_edit(LARGE, LARGE_SOURCE)
    reply = await attack.post(EDITS, body, f"{head}idempotency-key: large\r\n", seconds)
    return len(reply.body)


async def _draw_large(attack: Attack) -> None:
    size_bytes = await _ask_large(attack, DRAW_SECONDS)
    if size_bytes < LARGE_ANSWER_BYTES:
        raise RuntimeError(f"{size_bytes} bytes of large pictures, {dict(attack.statuses)}")


async def _large(attack: Attack, seconds: float) -> None:
    until = time.perf_counter() + seconds

    async def ask_again() -> None:
        while (left := until - time.perf_counter()) > 0:
            await _ask_large(attack, left)
            await asyncio.sleep(0.2)

    await asyncio.gather(*(ask_again() for _ in range(LARGE_AT_ONCE)))


async def _spend(attack: Attack) -> None:
    await attack.order("the last one of today")


async def _uploads(attack: Attack, seconds: float) -> None:
    body, head = form_of_two(UPLOAD_BYTES)
    await at_rate(4, seconds, lambda i: attack.post(EDITS, body, head))


async def _slow_heads(attack: Attack, seconds: float) -> None:
    """Connections whose head never ends, one byte at a time; a closed one is opened again."""

    async def one() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            with suppress(OSError):
                _, writer = await _connect(attack)
                writer.write(b"GET /v1/jobs HTTP/1.1\r\nx-slow: ")
                while time.perf_counter() < until and not writer.is_closing():
                    writer.write(b"a")
                    await asyncio.sleep(1)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(SLOW_HEADS)))


ABUSES: Mapping[str, Abuse] = MappingProxyType(
    {
        "poison prompts": Abuse(_nothing, _poison),
        "60,000-field bodies": Abuse(_nothing, _fields),
        "lists": Abuse(_fill_list, _lists),
        "4,000 streams": Abuse(_open_streams, _hold_streams),
        "ten 4K answers": Abuse(_draw_large, _large),
        "uploads over quota": Abuse(_spend, _uploads),
        "slow heads": Abuse(_nothing, _slow_heads),
    }
)

KEYS: Mapping[str, str] = MappingProxyType(
    {name: f"sk-abuse-{number}" for number, name in enumerate(ABUSES)}
)
"""Each abuse has a tenant of its own, so that one does not wait in the queue of another."""
SPENT = "uploads over quota"
"""The abuse whose tenant may order one picture a day."""


async def measured(url: str, name: str, seconds: float) -> Counter[str]:
    """Prepare, wait for the word, attack; the statuses by count, 0 for a broken connection."""
    abuse, tools = ABUSES[name], Attack(url, KEYS[name])
    try:
        await abuse.prepare(tools)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        tools.statuses.clear()
        await abuse.attack(tools, seconds)
        return Counter({str(status): count for status, count in tools.statuses.items()})
    finally:
        await tools.close()


def main() -> None:
    url, name, seconds = sys.argv[1:]
    os.sched_setscheduler(0, POLICY, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(measured(url, name, float(seconds)))), flush=True)


if __name__ == "__main__":
    main()
