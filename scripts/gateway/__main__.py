"""`make bench-gateway`: what accepting an order costs beside a bare echo of Ray Serve, what the
metrics cost, and how many series a node has. On a live cluster in HAProxy mode with PostgreSQL; the
sides of each comparison take turns, and medians are compared. The last line is one JSON object.

    python -m scripts.gateway --quick
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx

from jobs.sql.sql_ledger import SqlLedger
from scripts.accept import ORDER, load
from scripts.cluster import Config, running
from scripts.gateway.lanes import (
    COUNTED,
    FLAGS,
    TENANTS,
    UNCOUNTED,
    announced,
    config_of,
    metrics_port,
)
from scripts.postgres import DATABASES
from scripts.report import Goals, missed, rich_table, say
from scripts.wire import ASYNC, GENERATIONS, JSON, Client

GOALS: Goals = {
    "accept_over_serve_echo": (">=", 0.2),
    "metrics_cost": (">=", 0.98),
    "series_per_node_at_100_tenants": ("<=", 3000),
}
CLIENTS = 16
WARM_UP = 300
PATIENCE_SECONDS = 300.0
IMAGE = {"prompt": "a red fox", "size": "256x256", "quality": "low"}


def requests_per_second(url: str, requests: int) -> float:
    """Of CLIENTS that order one after the other."""
    began = time.perf_counter()
    asyncio.run(load(url, CLIENTS, requests))
    return requests / (time.perf_counter() - began)


def images_per_second(url: str, lane: str, dsn: str, images: int) -> float:
    """Ordered at once by one tenant, until the last one is drawn."""
    with closing(SqlLedger(dsn)) as ledger:
        began = time.perf_counter()
        asyncio.run(_order(url, images))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while ledger.depth(lane).waiting or ledger.depth(lane).running_seconds > 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{lane}: not drawn within {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.02)
        return images / (time.perf_counter() - began)


async def _order(url: str, images: int) -> None:
    client, body = Client(url, f"sk-{TENANTS[0]}"), json.dumps({**IMAGE, "n": 4}).encode()
    for _ in range(images // 4):
        reply = await client.ask("POST", GENERATIONS, body, ASYNC)
        assert reply.status == 202, reply
    client.close()


def await_accepted(url: str) -> None:
    """Gateways hear of a model a moment after it was announced."""

    async def status() -> int:
        client = Client(url, "sk-bench")
        reply = await client.ask("POST", GENERATIONS, ORDER.encode(), ASYNC)
        client.close()
        return reply.status

    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answered := asyncio.run(status())) != 202:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url}: answers {answered}")
        time.sleep(0.5)


async def all_tenants(url: str) -> None:
    """Each orders a picture, streams one with previews, and sends what is refused."""
    orders = (IMAGE, {**IMAGE, "stream": True, "partial_images": 2}, {**IMAGE, "n": 11})

    async def one(tenant: str) -> None:
        client = Client(url, f"sk-{tenant}")
        for order in orders:
            await client.ask("POST", GENERATIONS, json.dumps(order).encode(), JSON)
        await client.ask("GET", f"/v1/jobs/{tenant}")
        client.close()

    for number in range(0, len(TENANTS), CLIENTS):
        await asyncio.gather(*(one(tenant) for tenant in TENANTS[number : number + CLIENTS]))


def series(url: str) -> int:
    """On a page of metrics."""
    page = httpx.get(url, timeout=60, trust_env=False).text
    return sum(not line.startswith("#") for line in page.splitlines())


def rays_series(dashboard: str) -> int:
    """On the pages that Ray itself lists."""
    found = httpx.get(f"{dashboard}/api/prometheus/sd", timeout=60, trust_env=False).json()
    return sum(series(f"http://{one}/metrics") for group in found for one in group["targets"])


def in_turn(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Medians of so many rounds, in changing order."""
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            seen[name].append(sides[name]())
        say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:.1f}/s" for k, v in seen.items()))
    return {name: statistics.median(values) for name, values in seen.items()}


def measure(
    config: Config, api: str, dashboard: str, options: argparse.Namespace
) -> dict[str, float]:
    """Everything, on a cluster that runs."""
    dsn = config["applications"][0]["args"]["ledger"]["dsn"]
    urls = {name: f"{api}/{name}" for name in ("accept", "echo")}
    for url in urls.values():
        await_accepted(url)
        asyncio.run(load(url, CLIENTS, WARM_UP))
    accepted = in_turn(
        {
            "accept": lambda: requests_per_second(urls["accept"], options.requests),
            "echo": lambda: requests_per_second(urls["echo"], options.requests),
        },
        options.rounds,
    )
    asyncio.run(all_tenants(f"{api}/{COUNTED}"))
    ours = series(f"http://127.0.0.1:{metrics_port(config)}/metrics")
    rays = rays_series(dashboard)
    drawn = in_turn(
        {
            lane: lambda lane=lane: images_per_second(f"{api}/{lane}", lane, dsn, options.images)  # type: ignore[misc]
            for lane in (COUNTED, UNCOUNTED)
        },
        options.rounds,
    )
    rows = [
        (
            "orders accepted per second",
            f"{accepted['accept']:.0f}",
            f"{accepted['echo']:.0f} echoes",
        ),
        ("images per second", f"{drawn[COUNTED]:.1f}", f"{drawn[UNCOUNTED]:.1f} without metrics"),
        ("series of the node", ours, f"{rays} of Ray's own"),
    ]
    rich_table("The gateway and the metrics", ("", "found", "beside"), rows)
    return {
        "accept_over_serve_echo": round(accepted["accept"] / accepted["echo"], 3),
        "metrics_cost": round(drawn[COUNTED] / drawn[UNCOUNTED], 3),
        "series_per_node_at_100_tenants": ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the gateway beside a bare echo.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="of a round and side")
    parser.add_argument("--images", type=int, default=200, help="of a round and side")
    parser.add_argument("--folder", type=Path, default=Path("var/gateway"), help="for the database")
    parser.add_argument("--quick", action="store_true", help="two rounds of a tenth")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.requests, options.images = 2, 320, 40
    os.environ.update(FLAGS, PYTHONPATH=str(Path.cwd()))
    with (
        tempfile.TemporaryDirectory(prefix="mp-gateway-") as folder,
        DATABASES["postgresql"](options.folder) as dsn,
    ):
        config = config_of(Path(folder), dsn)
        with announced(config), running(config, say) as cluster:
            found = measure(config, cluster.api_url, cluster.dashboard_url, options)
    for key in missed(GOALS, found):
        sign, goal = GOALS[key]
        say(f"{key}: {found[key]} instead of {sign} {goal}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
