"""Nothing unscreened leaves, whatever becomes of the classifier: its process is killed again and
again while clients stream previews, ask for pictures that are being drawn, change finished ones,
and download them twice. Then every picture that came is looked up in the audit log by its pixels,
which no mark has changed (`provenance: off`)."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field

import httpx

from engine.policy import Action
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_safety.counting import pictures_in, unscreened_bytes
from scripts.bench_safety.service import (
    AT_END,
    KEY,
    Service,
    TimedScreens,
    body,
    service,
    stages,
)
from scripts.report import say
from scripts.weapons.prompts import Drawing, drawings
from scripts.wire import GENERATIONS

KILLS = 25
SECONDS = 1.5
"""At most, from a classifier that answers to its end."""
PREVIEWS = 2
TELL_SECONDS = 0.5
ARMED = 3
"""One order of so many asks for a weapon."""


@dataclass
class Seen:
    """What reached the clients. pictures: files. jobs: all that were ordered."""

    pictures: list[bytes] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    ended: bool = False


def measure_killing() -> dict[str, float]:
    """unscreened_bytes, and how much there was to find fault with."""
    seen = Seen()
    with stages() as shared, service(shared, AT_END) as running:
        asyncio.run(_storm(running, shared.screens, seen))
        allowed, actions = _verdicts(running, seen)
    kinds = dict(sorted(seen.answers.items()))
    say(f"{len(seen.jobs)} orders: {kinds}; verdicts on pictures: {dict(actions)}")
    return {
        "unscreened_bytes": unscreened_bytes(seen.pictures, allowed),
        "pictures_that_reached_clients": len(seen.pictures),
        "bytes_that_reached_clients": sum(map(len, seen.pictures)),
        "classifier_kills": KILLS,
    }


def _verdicts(running: Service, seen: Seen) -> tuple[set[str], Counter[str]]:
    """Digests that the audit log has allowed, and how often it says what."""
    with closing(SqlLedger(f"sqlite:///{running.ledger}")) as ledger:
        notes = [logged.note for job in seen.jobs for logged in ledger.verdicts_of(job)]
    pictures = [note for note in notes if note.index is not None]
    actions = Counter(f"{note.stage} {note.action}" for note in pictures)
    return {note.sha256 for note in pictures if note.action != Action.BLOCK}, actions


async def _storm(running: Service, screens: TimedScreens, seen: Seen) -> None:
    async with (
        httpx.AsyncClient(base_url=running.url, headers=KEY, timeout=600, trust_env=False) as http,
        asyncio.TaskGroup() as group,
    ):
        wishes = _wishes()
        for _ in range(4):
            group.create_task(_client(http, wishes, seen))
        await _kill(screens)
        seen.ended = True


async def _kill(screens: TimedScreens) -> None:
    """SIGKILL, each time a moment after the process is there again."""
    draw, kills = random.Random(0), 0
    while kills < KILLS:
        while screens.pid is None:  # noqa: ASYNC110  # another thread starts it
            await asyncio.sleep(0.05)
        await asyncio.sleep(draw.uniform(0, SECONDS))
        if (pid := screens.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills += 1


async def _client(http: httpx.AsyncClient, wishes: Iterator[Drawing], seen: Seen) -> None:
    """One order after another, each followed by downloads and by a change of what was drawn."""
    for drawing in wishes:
        if seen.ended:
            return
        streamed = {"stream": True, "partial_images": PREVIEWS}
        job = await _order(http, GENERATIONS, body(drawing) | streamed, seen)
        if await _download(http, job, seen):
            change = {"delta": "at night", "seed": drawing.seed} | streamed
            changed = await _order(http, f"/v1/images/img_{job}_0/tweaks", change, seen)
            await _download(http, changed, seen)


async def _order(http: httpx.AsyncClient, path: str, wish: dict[str, object], seen: Seen) -> str:
    """Its job's id. Reads the stream to its end, and asks for the file meanwhile."""
    async with http.stream("POST", path, json=wish) as answer:
        job = answer.headers.get("x-job-id", "")
        early = asyncio.create_task(_ask_early(http, job, seen))
        try:
            await answer.aread()
        finally:
            early.cancel()
    seen.jobs.add(job)
    found = _keep(answer, seen)
    ending = "blocked" if b"moderation_blocked" in answer.content else "not drawn"
    seen.answers["drawn" if b".completed" in answer.content else ending] += 1
    seen.answers["pictures in streams"] += found
    return job


async def _ask_early(http: httpx.AsyncClient, job: str, seen: Seen) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        found = _keep(await http.get(f"/v1/jobs/{job}/images/0"), seen)
        seen.answers["files before the end of the stream"] += found


async def _download(http: httpx.AsyncClient, job: str, seen: Seen) -> int:
    """The file twice, and what its events say afterwards. How many files came."""
    paths = [f"/v1/jobs/{job}/images/0"] * 2 + [f"/v1/jobs/{job}/events"]
    found = [_keep(await http.get(path), seen) for path in paths]
    seen.answers["downloads"] += sum(found)
    return sum(found[:2])


def _keep(answer: httpx.Response, seen: Seen) -> int:
    if not answer.is_success:
        return 0
    found = pictures_in(answer.headers.get("content-type", ""), answer.content)
    seen.pictures += found
    return len(found)


def _wishes() -> Iterator[Drawing]:
    """Harmless ones and weapons, mixed; never the same twice."""
    calm, armed = ([one for one in drawings("measured") if one.weapon is weapon]
                   for weapon in (False, True))  # fmt: skip
    for number in itertools.count():
        kind = calm if number % ARMED else armed
        yield kind[number % len(kind)]
