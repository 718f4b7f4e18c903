"""`make bench-kill`: kill decoder replicas under load, then count what was lost.

Every kill is a SIGKILL of a running replica's process while the others draw. Afterwards the ledger
and the answers are checked: every accepted job succeeded, each image settled once, and pictures
equal those of an undisturbed run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jobs.job import JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench.workload import body
from scripts.chaos import auditor
from scripts.chaos.serving import Killer, under_load
from scripts.cluster import KEY, args_of, own_config, running
from scripts.load import pixels_digest
from scripts.wire import GENERATIONS, JSON, Client
from serve_app.config.serve_file import load_serve_config

REPLICAS = 2
WAIT_SECONDS = 300.0
SAMPLE = 16


@dataclass(slots=True)
class Load:
    """Synchronous clients in a closed loop. digests: seed -> sha256 of the pixels. wrong: seed ->
    the answer that brought no picture."""

    client: Client
    digests: dict[int, str] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)
    stop: bool = False
    _next: int = 0

    async def run(self, users: int) -> None:
        """Until `stop`; everything that was sent is waited for."""
        async with asyncio.TaskGroup() as group:
            for _ in range(users):
                group.create_task(self._user())
        self.client.close()  # its connections belong to this event loop

    async def draw(self, seeds: list[int]) -> dict[int, str]:
        """The pictures of these seeds again, one after another."""
        return {seed: await self._draw(seed) for seed in seeds}

    async def _user(self) -> None:
        while not self.stop:
            seed, self._next = self._next, self._next + 1
            self.digests[seed] = await self._draw(seed)

    async def _draw(self, seed: int) -> str:
        wanted = json.dumps(body(seed)).encode()
        answer = await self.client.ask("POST", GENERATIONS, wanted, JSON, WAIT_SECONDS)
        if answer.status != 200:
            self.wrong[seed] = f"{answer.status}: {answer.body[:300].decode(errors='replace')}"
            return ""
        picture: str = answer.json()["data"][0]["b64_json"]
        return pixels_digest(picture)


def judge(url: str, load: Load, again: dict[int, str]) -> dict[str, Any]:
    """What the run proves. lost: accepted jobs without their picture. doubled: images that were
    settled more than once. different: sampled pictures unlike those of an undisturbed run."""
    with closing(SqlLedger(url)) as ledger:
        jobs = ledger.recent("local", 1_000_000)
    unfinished = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    settled = auditor.settled(url)
    never = [j for j in jobs if any(not settled[(j.id, render.index)] for render in j.renders)]
    lost = {job.request.seed for job in (*unfinished, *never)} | load.wrong.keys()
    return {
        "lost": len(lost),
        "doubled": sum(times > 1 for times in settled.values()),
        "jobs": len(jobs),
        "answers": len(load.digests),
        "wrong_answers": dict(list(load.wrong.items())[:5]),
        "compared": len(again),
        "different": sum(load.digests[seed] != digest for seed, digest in again.items()),
    }


def run(config: dict[str, Any], kills: int, clients: int, minutes: float) -> dict[str, Any]:
    """Start, disturb, look, stop."""
    with tempfile.TemporaryDirectory(prefix="meltproof-kill-") as folder:
        world = auditor.watched_world(Path(folder))
        config = own_config(config, Path(folder))
        args_of(config)["decoder"]["replicas"] = REPLICAS
        with running(config) as cluster:
            load = Load(Client(cluster.api_url, KEY))
            killer = Killer(cluster, ("Decoder",))
            asyncio.run(under_load(load, clients, partial(killer.run, kills, 60 * minutes)))
            seeds = random.Random(1).sample(sorted(load.digests), min(SAMPLE, len(load.digests)))
            again = asyncio.run(load.draw(seeds))
            return {**judge(world.url, load, again), "kills": killer.faults.total()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill decoders under load; count what was lost.")
    parser.add_argument("--config", type=Path, default=Path("configs/laptop.yaml"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=12.0, help="stop killing after so long")
    options = parser.parse_args()
    began = time.monotonic()
    config = load_serve_config(options.config)
    found = run(config, options.kills, options.clients, options.minutes)
    found["seconds"] = round(time.monotonic() - began, 1)
    found["family"] = args_of(config)["model"].get("family", "masked")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
