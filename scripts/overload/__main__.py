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
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deployments.local import LocalCluster
from jobs.job import TERMINAL
from jobs.sql_ledger import SqlLedger
from scripts.bench.sides import args_of, own_config
from scripts.chaos import auditor
from scripts.chaos.world import LANE, World
from scripts.load import percentile
from scripts.overload.crowd import KEYS, Crowd
from serve_app.serve_file import load_serve_config

OVERLOAD = 10
SLOTS, REPLICAS, PASSES = 4, 2, 8
PASS_MS, PER_ROW_MS = 160.0, 10.0
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


def drawn(ledger: Path, begin: float, end: float) -> float:
    """Images a second that ended between two moments of the ledger's clock."""
    query = """select count(*) from renders join jobs on jobs.id = renders.job_id
        where renders.state = 'succeeded' and jobs.finished_at between ? and ?"""
    with closing(sqlite3.connect(ledger)) as database:
        (count,) = database.execute(query, (begin, end)).fetchone()
    return float(count) / (end - begin)


async def under_load(
    crowd: Crowd, phases: Phases, images_per_s: Callable[[float, float], float]
) -> dict[str, float]:
    """Fill the queue, measure, flood, measure again."""
    await crowd.order(
        int(PROMISED * (phases.saturation + 2 * SETTLE_SECONDS)) + 50, FILL_PER_SECOND
    )
    filled = Counter(crowd.statuses)
    crowd.accepts.clear()
    await asyncio.sleep(SETTLE_SECONDS)
    begin = time.time()
    await asyncio.sleep(phases.saturation)
    saturation = await asyncio.to_thread(images_per_s, begin, time.time())
    print(f"saturation: {saturation:.3f} images/s, {PROMISED:.3f} promised", flush=True)
    begin = time.time() + SETTLE_SECONDS
    ending = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(phases.flood, ending.set_result, None)
    flood = asyncio.create_task(crowd.flood(OVERLOAD * saturation, phases.flood))
    await ending
    end = time.time()
    await flood
    crowd.close()
    goodput = await asyncio.to_thread(images_per_s, begin, end)
    print(
        f"under the flood: {goodput:.3f} images/s of {OVERLOAD * saturation:.1f} asked", flush=True
    )
    assert set(filled) == {("async", 202)}, filled
    return {"saturation_images_per_s": saturation, "flood_images_per_s": goodput}


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
        world = World(folder, f"sqlite:///{folder}/ledger.db")
        world.prepare()
        SqlLedger(world.url).close()
        auditor.install(world.url)
        cluster = LocalCluster(settings(folder), dashboard_port=0)
        try:
            cluster.start()
            crowd = Crowd(cluster.api_url, world.log("told"))
            rates = asyncio.run(under_load(crowd, phases, partial(drawn, folder / "ledger.db")))
        finally:
            cluster.stop()
        end_all(world.url)
        found = auditor.audit(world, pictures=False).summary()
    return judge(rates, crowd, found)


def judge(rates: dict[str, float], crowd: Crowd, found: dict[str, Any]) -> dict[str, Any]:
    """The figures, ready for JSON. An answer that never came counts as a 5xx."""
    answers = {f"{kind} {status}": count for (kind, status), count in crowd.statuses.items()}
    failed = sum(n for (_, s), n in crowd.statuses.items() if s == 0 or s >= 500)
    complaints = {k: v for k, v in found.items() if isinstance(v, int) and v and k != "images"}
    for kind, count in sorted(answers.items()):
        print(f"{kind:<20} {count:>8}")
    print(f"audit: {found}", flush=True)
    return {
        "goodput_over_saturation": round(
            rates["flood_images_per_s"] / rates["saturation_images_per_s"], 4
        ),
        "errors_5xx": failed,
        "lost": found["lost"],
        "accept_p99_ms": round(1000 * percentile(crowd.accepts, 99), 1),
        "accept_p50_ms": round(1000 * percentile(crowd.accepts, 50), 1),
        "stream_start_p99_ms": round(1000 * percentile(crowd.stream_starts, 99), 1),
        "largest_send_lag_ms": round(1000 * crowd.largest_lag_seconds, 1),
        **{name: round(rate, 3) for name, rate in rates.items()},
        "audit": complaints,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask ten times what the lane can do, and count.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the flood")
    parser.add_argument("--quick", action="store_true", help="about a minute in all")
    options = parser.parse_args()
    phases = Phases(20.0, 30.0) if options.quick else Phases(110.0, 60 * options.minutes)
    print(json.dumps(run(phases)))


if __name__ == "__main__":
    main()
