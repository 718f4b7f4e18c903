"""The two runs without Ray: a storm of faults with an audit, and a count of passes drawn twice."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from jobs.ledger_errors import LedgerUnavailable
from scripts.chaos import auditor, passes
from scripts.chaos.collecting import collect
from scripts.chaos.crew import Crew
from scripts.chaos.databases import DATABASES, Database
from scripts.chaos.faults import Storm
from scripts.chaos.world import LANE, World, wish

IGNORED = shutil.ignore_patterns("*.sock", "ballast", "mp-pg-*")
DISPATCHERS, CLIENTS, WISHES = 4, 3, 8
REST_SECONDS = 120.0
PAUSE_SECONDS = 0.6
"""Between faults, on average."""
LONG_PASSES, LONG_PASS_MS, LONG_RENDERS = 16, 200.0, 8


def weather(name: str, seconds: float, seed: int, keep: Path | None) -> dict[str, Any]:
    """Faults for so long, then rest, then the audit."""
    with _world(name, keep, "storm") as (world, database):
        crew = Crew(world)
        storm = Storm(world, crew, database, random.Random(seed))
        try:
            crew.muster(DISPATCHERS, CLIENTS, WISHES)
            storm.rage(seconds, PAUSE_SECONDS)
            rested = rest(world, crew)
        finally:
            crew.dismiss()
        found = auditor.audit(world, storm.away, lambda: collect(world, LANE))
        for crash in crew.crashes:
            found.say("crashes", crash)
        if not rested:
            found.say("lost", f"jobs were unsettled {REST_SECONDS:.0f} s after the last fault")
        return {"faults": storm.faults.total(), **found.summary(), "kinds": dict(storm.faults)}


def rest(world: World, crew: Crew) -> bool:
    """Clients finish what they have begun, dispatchers what is queued."""
    world.stop_file.touch()
    crew.wake()
    until = time.monotonic() + REST_SECONDS
    with closing(world.ledger()) as ledger:
        while time.monotonic() < until:
            for member in crew.members:
                if member.role == "client" and member.process.exitcode == 0:
                    member.killed = True  # it has gone home
            crew.members = [m for m in crew.members if m.process.exitcode != 0]
            crew.tend()
            try:
                depth = ledger.depth(LANE)
            except LedgerUnavailable:
                continue
            at_home = not any(member.role == "client" for member in crew.members)
            if at_home and not depth.queued_jobs + depth.active_jobs:
                return True
            time.sleep(0.2)
    return False


def passes_redone(name: str, rounds: int, keep: Path | None) -> dict[str, Any]:
    """The most passes that any image was drawn twice after one kill: of a decoder, then of a
    dispatcher, with heartbeats and leases as they are by default."""
    found: dict[str, Any] = {}
    for role in ("decoder", "dispatcher"):
        with _world(name, keep, role, long_passes=True) as (world, _):
            found[f"passes_redone_{role}_kill"] = max(_kill_rounds(world, role, rounds), default=0)
    return found


def _kill_rounds(world: World, role: str, rounds: int) -> list[int]:
    crew = Crew(world)
    draw = random.Random(role)
    try:
        crew.muster(dispatchers=2, clients_count=0, wishes=0)
        with closing(world.ledger()) as ledger:
            for number in range(rounds):
                for i in range(LONG_RENDERS):
                    seed = 1000 * number + 53 * i + 1
                    ledger.submit(wish("t", "pro", passes=LONG_PASSES, watched=False, seed=seed))
                _until_drawing(ledger, LONG_RENDERS)
                time.sleep(draw.uniform(0.5, 2.0))
                crew.kill(draw.choice(crew.well(role)))
                while (depth := ledger.depth(LANE)).queued_jobs + depth.active_jobs:
                    crew.tend()
                    time.sleep(0.05)
    finally:
        crew.dismiss()
    return passes.redone(world.passes())


def _until_drawing(ledger: Any, images: int) -> None:
    until = time.monotonic() + 20
    while ledger.depth(LANE).active_jobs < images and time.monotonic() < until:
        time.sleep(0.02)


@contextmanager
def _world(
    name: str, keep: Path | None, what: str, *, long_passes: bool = False
) -> Iterator[tuple[World, Database]]:
    root = Path(tempfile.mkdtemp(prefix="mp-chaos-"))
    try:
        with DATABASES[name](root) as database:
            world = World(root, database.url)
            if long_passes:
                world = World(root, database.url, 5.0, 1.0, LONG_PASS_MS, decoders=2)
            world.prepare()
            world.ledger().close()
            auditor.install(world.url)
            yield world, database
            if keep is not None:
                shutil.copytree(root, keep / name / what, dirs_exist_ok=True, ignore=IGNORED)
    finally:
        shutil.rmtree(root, ignore_errors=True)
