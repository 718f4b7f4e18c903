"""`make bench-accept`: what accepting an order costs beside a bare insert, at the median.

Ours is POST /v1/images/generations with `Prefer: respond-async`: key, quota, place in the fair
queue, Idempotency-Key, job and render, on disk before the answer. Bare is a FastAPI app that
inserts one row and commits it, through the same driver with the same settings into the same
database. Both are one uvicorn process with the same flags, asked in turn by the same number of
clients that keep their connections. The last line is one JSON object: the worst of the ratios of
medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import text

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import open_database
from jobs.sql.sql_ledger import SqlLedger
from scripts.children import server
from scripts.postgres import DATABASES
from scripts.report import rich_table
from scripts.wire import ASYNC, GENERATIONS, Client
from serve_app.config.cluster import parse_cluster_config
from serve_app.gateway import create_app
from serve_app.operate.local_cluster import free_port

CLIENTS = (1, 8)
FLAGS = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
SIDES = ("bare", "ours")
WARM_UP = 100
URL = "MELTPROOF_ACCEPT_URL"
"""The environment variable that tells both apps their database."""
CONFIG = {
    "model": {"name": "bench", "family": "paced"},
    "tiers": {"free": {"images_per_day": 100_000_000}},
    "keys": [{"key": "sk-bench", "tenant": "bench"}],
}
ORDER = json.dumps(
    {"model": "bench", "prompt": "a red fox in the snow", "n": 1, "size": "1024x1024"}
)


def ours() -> FastAPI:
    """The gateway, as uvicorn's factory."""
    config = parse_cluster_config(CONFIG)
    ledger = SqlLedger(os.environ[URL], tiers=config.tier_promises())
    return create_app(AsyncLedger(ledger), DirectoryBlobs(Path(tempfile.mkdtemp())), config)


class Wish(BaseModel):
    """What the bare app reads of an order."""

    prompt: str
    model: str
    n: int = 1
    size: str = "auto"


def bare() -> FastAPI:
    """One insert and one commit for each request, through the doors of our own ledger."""
    database = open_database(os.environ[URL])
    with database.durable.begin() as connection:
        connection.execute(text("create table bare (id text primary key, wish text)"))
    insert = text("insert into bare (id, wish) values (:id, :wish)")
    app = FastAPI()

    @app.post(GENERATIONS, status_code=202)
    def create(wish: Wish) -> dict[str, str]:
        row = {"id": uuid.uuid4().hex, "wish": wish.model_dump_json()}
        with database.durable.begin() as connection:
            connection.execute(insert, row)
        return {"id": row["id"]}

    return app


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of every request of one side."""

    bare: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.bare)


async def client(url: str, requests: int) -> list[float]:
    """That many orders, one after the other on one connection; milliseconds of each."""
    asking, spent = Client(url, "sk-bench"), []
    for _ in range(requests):
        headers = f"idempotency-key: {uuid.uuid4()}\r\n{ASYNC}"
        start = time.perf_counter()
        reply = await asking.ask("POST", GENERATIONS, ORDER.encode(), headers)
        spent.append(1000 * (time.perf_counter() - start))
        assert reply.status == 202, reply
    asking.close()
    return spent


async def load(url: str, clients: int, requests: int) -> list[float]:
    """So many clients at once, `requests` together."""
    each = await asyncio.gather(*(client(url, requests // clients) for _ in range(clients)))
    return [spent for one in each for spent in one]


def measure(urls: Mapping[str, str], clients: int, rounds: int, requests: int) -> Measured:
    """`rounds` times each side in turn, in changing order."""
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in sorted(SIDES, reverse=bool(number % 2)):
            spent[side] += asyncio.run(load(urls[side], clients, requests))
    return Measured(**spent)


def compare(database: str, rounds: int, requests: int) -> dict[int, Measured]:
    """Both sides over that database, by the number of clients."""
    environment = {URL: database, "PYTHONPATH": "."}
    urls = {}
    with ExitStack() as stack:
        for side in SIDES:
            port = free_port()
            command = ["-m", "uvicorn", "--factory", f"scripts.accept:{side}", "--port", str(port)]
            serving = server(port, [*command, *FLAGS], "/", env=environment)
            urls[side] = stack.enter_context(serving)
        for url in urls.values():
            asyncio.run(load(url, 1, WARM_UP))
        return {clients: measure(urls, clients, rounds, requests) for clients in CLIENTS}


def _cells(spent: Sequence[float], clients: int) -> Iterator[str]:
    """p50, p95, and how many orders a second the clients got answered together."""
    for percent in (50, 95):
        yield f"{statistics.quantiles(spent, n=100)[percent - 1]:.2f}"
    yield f"{1000 * clients / statistics.mean(spent):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the accept path beside a bare insert.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--folder", type=Path, default=Path("var/accept"), help="for databases")
    options = parser.parse_args()
    rounds, requests = (2, 200) if options.quick else (10, 800)
    rows, ratios = [], []
    for database, made in DATABASES.items():
        with made(options.folder) as url:
            for clients, found in compare(url, rounds, requests).items():
                cells = [*_cells(found.bare, clients), *_cells(found.ours, clients)]
                rows.append((database, clients, *cells, f"{found.ratio:.2f}"))
                ratios.append((found.ratio, database, clients))
    sides = [f"{side} {what}" for side in SIDES for what in ("p50", "p95", "per s")]
    title = f"Milliseconds until an order is accepted (uvicorn {' '.join(FLAGS)})"
    rich_table(title, ("database", "clients", *sides, "ratio"), rows)
    worst, database, clients = max(ratios)
    print(f"The worst of these ratios is the result: {database}, clients: {clients}.")
    print(json.dumps({"accept_over_bare_fastapi": round(worst, 2)}))


if __name__ == "__main__":
    main()
