"""`make bench-models`: the models of a lane are applications of their own on a live cluster; under
load one is added, upgraded, removed, and returns. Counts the replicas of all others that came or
left meanwhile, and what became of every job. The last line is one JSON object.

    python -m scripts.models --pictures 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from scripts.chaos import auditor
from scripts.cluster import KEY, Config, running
from scripts.models import lane, witnesses
from scripts.models.clients import WAIT_SECONDS, Clients, until
from scripts.report import Goals, missed, say, table
from serve_app.operate.config_diff import changes
from serve_app.operate.serve_api import ServeApi

GOALS: Goals = {
    "restarts_elsewhere": ("<=", 0),
    "restarts_by_a_live_edit": ("<=", 0),
    "jobs_lost": ("<=", 0),
    "jobs_doubled": ("<=", 0),
    "pictures_that_differ": ("<=", 0),
    "not_resumed": ("<=", 0),
}
SAMPLE = 6
LIMIT_SECONDS = 1200.0
SAVED = 3
"""Renders of the changed model that have a checkpoint when it is upgraded, at least."""


@dataclass
class Run:
    """pictures: that each model which should draw has to draw in each phase."""

    serve: ServeApi
    clients: Clients
    dsn: str
    config: Config
    pictures: int
    elsewhere: set[witnesses.Replica] = field(default_factory=set)
    by_live_edits: set[witnesses.Replica] = field(default_factory=set)
    verdict: dict[str, int] = field(default_factory=dict)

    async def phase(
        self, title: str, config: Config, then: Callable[[], Awaitable[None]], *, own: str | None
    ) -> None:
        """Deploy that, and see. own: the application that may restart."""
        said = {change.said() for change in changes(self.serve.status(), config)}
        began = time.monotonic()
        async with witnesses.watching(self.serve) as seen:
            await self._deploy(config)
            took = time.monotonic() - began
            await then()
        others = seen.restarted(but=own)
        self.elsewhere |= others if own is not None else set()
        self.by_live_edits |= others if own is None else set()
        drawn = len(self.clients.pictures)
        say(f"{title:30}{took:8.1f}{len(others):12}{drawn:10}   {'; '.join(sorted(said))}")

    async def _deploy(self, config: Config) -> None:
        self.config = config
        await asyncio.to_thread(self.serve.put, config)
        await asyncio.to_thread(self.serve.await_running, config, lambda _: None)

    async def drawn(self, *models: str) -> None:
        """So many pictures more of each of them."""
        await asyncio.gather(*(self.clients.drawn(model, self.pictures) for model in models))

    async def upgrade(self) -> None:
        """The changed model gets other options while it draws."""
        found = witnesses.Interrupted(self.dsn, f"default/{lane.CHANGED}")
        await until(lambda: found.begin(at_least=SAVED))
        looking = asyncio.create_task(until(found.look))

        async def ended() -> None:
            await looking
            await self.drawn("photo", lane.CHANGED)

        edited = lane.with_other_options(self.config)
        await self.phase("upgraded", edited, ended, own=lane.CHANGED)
        self.verdict = found.verdict()

    async def go(self) -> None:
        """All phases."""
        both = ("photo", lane.CHANGED)
        say(f"{'':30}{'seconds':>8}{'restarts':>12}{'pictures':>10}   what meltproof diff says")
        async with self.clients.drawing("photo"), self.clients.drawing(lane.CHANGED):
            await self.drawn(*both)
            without = self.config
            more = lane.with_added(without)
            await self.phase("added", more, lambda: self._available(lane.ADDED), own=lane.ADDED)
            async with self.clients.drawing(lane.ADDED):
                await self.drawn(*both, lane.ADDED)
                live = lane.with_other_passes(self.config)
                await self.phase("edited live", live, lambda: self.drawn(*both), own=None)
                await self.upgrade()
                removed = {**self.config, "applications": [
                    app for app in self.config["applications"] if app["name"] != lane.ADDED
                ]}  # fmt: skip
                back = self.config
                await self.phase("removed", removed, lambda: self.drawn(*both), own=lane.ADDED)
                returns = (*both, lane.ADDED)
                await self.phase("back", back, lambda: self.drawn(*returns), own=lane.ADDED)

    async def _available(self, name: str) -> None:
        while True:
            listed = [one async for one in self.clients.client.models.list()]
            if any(one.id == name and (one.model_extra or {})["available"] for one in listed):
                return
            await asyncio.sleep(0.2)

    async def again(self) -> int:
        """Of some pictures those that are others now, when nothing disturbs them."""
        sample = [a for a in sorted(self.clients.pictures) if a[0] != lane.CHANGED][-SAMPLE:]
        digests = [await self.clients.draw(asked) for asked in sample]
        return sum(
            self.clients.pictures[asked] != digest
            for asked, digest in zip(sample, digests, strict=True)
        )


async def measured(serve: ServeApi, url: str, dsn: str, config: Config, pictures: int) -> Any:
    """The figures, ready for JSON."""
    before = witnesses.actors(serve)
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=WAIT_SECONDS
    ) as client:
        clients = Clients(client)
        run = Run(serve, clients, dsn, config, pictures)
        async with asyncio.timeout(LIMIT_SECONDS):
            await run.go()
        found = witnesses.audited(dsn, clients)
        differ = await run.again()
    more = witnesses.actors(serve) - before
    say(f"replicas that Ray started meanwhile: {dict(more)}")
    if not more[lane.CHANGED]:
        raise RuntimeError("Ray's list of actors does not show the upgrade")
    beside = more.total() - more[lane.CHANGED] - more[lane.ADDED]
    for asked, error in list(clients.failed.items())[:5]:
        say(f"{asked}: {error}")
    return {
        "restarts_elsewhere": max(len(run.elsewhere), beside),
        "restarts_by_a_live_edit": len(run.by_live_edits),
        **found,
        "pictures_that_differ": differ,
        **run.verdict,
        "not_resumed": run.verdict["interrupted"] - run.verdict["resumed"],
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="Models come, change and go under load.")
    parser.add_argument("--pictures", type=int, default=10, help="of each model in each phase")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mp-models-") as name:
        world = auditor.watched_world(Path(name))
        config = lane.lane(Path(name))
        with running(config) as cluster:
            told = (cluster.serve, cluster.api_url, world.url, config, options.pictures)
            found = asyncio.run(measured(*told))
    for line in table(GOALS, {"measured": found}):
        say(line)
    if short := missed(GOALS, found):
        say(f"missed: {', '.join(short)}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
