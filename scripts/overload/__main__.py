"""`python -m scripts.overload`: measure what the lane can do with a full queue, then ask ten times
as much of it, and compare. A live cluster with paced decoders; the last line is one JSON object.

The pass takes so long that ten times the lane's rate is a flood which two processors can send and
serve honestly beside the decoders: they are shared by everything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.job import TERMINAL
from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.chaos.world import LANE
from scripts.cluster import args_of, own_config, running
from scripts.load import percentile
from scripts.overload.clients import KEYS, Clients
from serve_app.config.serve_file import load_serve_config

OVERLOAD = 10
SLOTS, REPLICAS, PASSES = 4, 2, 8
PASS_MS, PER_ROW_MS = 260.0, 10.0
IMAGE_SECONDS = PASSES * (PASS_MS + SLOTS * PER_ROW_MS) / 1000
PROMISED = SLOTS * REPLICAS / IMAGE_SECONDS
"""Images a second, were nothing in the way."""
SETTLE_SECONDS = 10.0
FILL_PER_SECOND = 50.0
CANCELS = 200


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of each."""

    saturation: float
    flood: float


def settings(folder: Path) -> dict[str, Any]:
    """The paced lane with two tiers of tenants."""
    config = own_config(load_serve_config(Path("configs/paced.yaml")), folder)
    args = args_of(config)
    args["lane"] = LANE
    args["model"]["options"] = {"pass_ms": PASS_MS, "per_row_ms": PER_ROW_MS}
    args["model"]["pass_seconds"] = IMAGE_SECONDS / PASSES / SLOTS
    args["decoder"] |= {"slots": SLOTS, "replicas": REPLICAS}
    args["safety"]["screen_at"] = []
    args["tiers"] = {"free": {"weight": 1}, "plus": {"weight": 4}}
    args["keys"] = [
        {"key": key, "tenant": key.removeprefix("sk-"), "tier": tier}
        for tier, keys in KEYS.items()
        for key in keys
    ]
    return config


@dataclass(frozen=True, slots=True)
class Drawn:
    """Images a second that ended between two moments, and how often a job of those was claimed:
    more than once where it made way for a fairer tier."""

    images_per_s: float
    claims_per_job: float


def drawn(ledger: Path, begin: float, end: float) -> Drawn:
    """Between two moments of the ledger's clock. Each job has one image."""
    query = """select count(*), sum(fence) from jobs
        where state = 'succeeded' and finished_at between ? and ?"""
    with closing(sqlite3.connect(ledger)) as database:
        count, claims = database.execute(query, (begin, end)).fetchone()
    return Drawn(count / (end - begin), claims / max(1, count))


async def under_load(
    clients: Clients, phases: Phases, between: Callable[[float, float], Drawn]
) -> tuple[Drawn, Drawn]:
    """Fill the queue, measure, flood, measure again."""
    jobs = int(PROMISED * (phases.saturation + 3 * SETTLE_SECONDS)) + SLOTS * REPLICAS
    await clients.order(jobs, FILL_PER_SECOND)
    clients.accepts.clear()
    await asyncio.sleep(SETTLE_SECONDS)
    saturated = await _measured(asyncio.sleep(phases.saturation), between)
    print(f"a full queue: {saturated}, {PROMISED:.3f} promised", flush=True)
    flood = asyncio.create_task(clients.flood(OVERLOAD * saturated.images_per_s, phases.flood))
    await asyncio.sleep(SETTLE_SECONDS)
    flooded = await _measured(asyncio.sleep(phases.flood - SETTLE_SECONDS), between)
    print(f"the flood: {flooded}, {OVERLOAD * saturated.images_per_s:.1f} asked", flush=True)
    await flood
    clients.close()
    return saturated, flooded


async def _measured(phase: Awaitable[None], between: Callable[[float, float], Drawn]) -> Drawn:
    begin = time.time()
    await phase
    return await asyncio.to_thread(between, begin, time.time())


def end_all(url: str) -> None:
    """Cancel what still waits; who holds a lease has given it back when the cluster stopped."""
    with closing(SqlLedger(url)) as ledger:
        until = time.monotonic() + 30
        while (ids := _not_ended(url)) and time.monotonic() < until:
            ledger.expire()
            for i in range(0, len(ids), CANCELS):
                ledger.together([partial(ledger.cancel, job) for job in ids[i : i + CANCELS]])


def _not_ended(url: str) -> list[str]:
    states = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        return [
            row[0] for row in database.execute(f"select id from jobs where state not in ({states})")
        ]


def run(phases: Phases) -> dict[str, Any]:
    """Start, saturate, flood, stop, audit."""
    with tempfile.TemporaryDirectory(prefix="mp-overload-") as name:
        folder = Path(name)
        world = auditor.watched_world(folder)
        with running(settings(folder)) as cluster:
            clients = Clients(cluster.api_url, world.log("told"))
            saturated, flooded = asyncio.run(
                under_load(clients, phases, partial(drawn, folder / "ledger.db"))
            )
        end_all(world.url)
        found = auditor.audit(world, pictures=False).summary()
    return judge(saturated, flooded, clients, found)


def judge(
    saturated: Drawn, flooded: Drawn, clients: Clients, found: dict[str, Any]
) -> dict[str, Any]:
    """The figures, ready for JSON. An answer that never came counts as a 5xx."""
    for (kind, status), count in sorted(clients.statuses.items()):
        print(f"{kind:<14} {status:>4} {count:>8}")
    print(f"audit: {found}", flush=True)
    failed = sum(n for (_, s), n in clients.statuses.items() if s == 0 or s >= 500)
    wrong = sum(found[kind] for kind in ("doubled", "miscounted", "orphans", "wrong_answers"))
    return {
        "goodput_over_saturation": round(flooded.images_per_s / saturated.images_per_s, 4),
        "errors_5xx": failed,
        "lost": found["lost"],
        "accept_p99_ms": _milliseconds(clients.accepts, 99),
        "accept_p50_ms": _milliseconds(clients.accepts, 50),
        "stream_start_p99_ms": _milliseconds(clients.stream_starts, 99),
        "largest_send_lag_ms": round(1000 * clients.largest_lag_seconds, 1),
        "saturation_images_per_s": round(saturated.images_per_s, 3),
        "flood_images_per_s": round(flooded.images_per_s, 3),
        "claims_per_job": [round(d.claims_per_job, 3) for d in (saturated, flooded)],
        "accepted": found["accepted"],
        "otherwise_wrong": wrong,
    }


def _milliseconds(seconds: list[float], q: float) -> float:
    return round(1000 * percentile(seconds, q), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask ten times what the lane can do, and count.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the flood")
    parser.add_argument("--quick", action="store_true", help="a minute and a half in all")
    options = parser.parse_args()
    phases = Phases(25.0, 35.0) if options.quick else Phases(110.0, 60 * options.minutes)
    print(json.dumps(run(phases)))


if __name__ == "__main__":
    main()
