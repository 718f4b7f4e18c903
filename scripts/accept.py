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
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.bench_ledger.databases import DATABASES
from serve_app.operate.local_cluster import free_port

CLIENTS = (1, 8)
FLAGS = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
SIDES = {"bare": "scripts.accept_sides:bare", "ours": "scripts.accept_sides:ours"}
WARM_UP = 100
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of every request of one side."""

    bare: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.bare)


@contextmanager
def serving(app: str, url: str) -> Iterator[int]:
    """The port of a uvicorn process with that app, over the database at `url`."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), *FLAGS]
    process = subprocess.Popen(command, env={"MELTPROOF_ACCEPT_URL": url, "PYTHONPATH": "."})
    try:
        _await_port(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("a server did not start")


def request() -> bytes:
    """One order as a client sends it, never the same twice."""
    body = json.dumps(
        {"model": "bench", "prompt": "a red fox in the snow", "n": 1, "size": "1024x1024"}
    )
    head = (
        "POST /v1/images/generations HTTP/1.1",
        "host: 127.0.0.1",
        "authorization: Bearer sk-bench",
        "accept: application/json",
        "user-agent: OpenAI/Python 3.52.0",
        "x-stainless-retry-count: 0",
        "prefer: respond-async",
        f"idempotency-key: {uuid.uuid4()}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def client(port: int, requests: int) -> list[float]:
    """That many orders, one after the other on one connection; milliseconds of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    spent = []
    for _ in range(requests):
        message = request()
        start = time.perf_counter()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        spent.append(1000 * (time.perf_counter() - start))
        assert head.startswith(b"HTTP/1.1 202 "), head + answer
    writer.close()
    await writer.wait_closed()
    return spent


async def crowd(port: int, clients: int, requests: int) -> list[float]:
    """So many clients at once, `requests` together."""
    each = await asyncio.gather(*(client(port, requests // clients) for _ in range(clients)))
    return [spent for one in each for spent in one]


def measure(ports: Mapping[str, int], clients: int, rounds: int, requests: int) -> Measured:
    """`rounds` times each side in turn, in changing order."""
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in sorted(SIDES, reverse=bool(number % 2)):
            spent[side] += asyncio.run(crowd(ports[side], clients, requests))
    return Measured(**spent)


def compare(url: str, rounds: int, requests: int) -> dict[int, Measured]:
    """Both sides over that database, by the number of clients."""
    with serving(SIDES["bare"], url) as bare, serving(SIDES["ours"], url) as ours:
        ports = {"bare": bare, "ours": ours}
        for port in ports.values():
            asyncio.run(crowd(port, 1, WARM_UP))
        return {clients: measure(ports, clients, rounds, requests) for clients in CLIENTS}


def show(measured: Mapping[str, Mapping[int, Measured]]) -> None:
    """The table."""
    table = Table(title=f"Milliseconds until an order is accepted (uvicorn {' '.join(FLAGS)})")
    sides = [f"{side} {what}" for side in ("bare", "ours") for what in ("p50", "p95", "per s")]
    for column in ("database", "clients", *sides, "ratio"):
        table.add_column(column, justify="right")
    for database, by_clients in measured.items():
        for clients, found in by_clients.items():
            cells = [*_cells(found.bare, clients), *_cells(found.ours, clients)]
            table.add_row(database, str(clients), *cells, f"{found.ratio:.2f}")
    Console(width=110).print(table)


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
    measured = {}
    for database, made in DATABASES.items():
        with made(options.folder) as url:
            measured[database] = compare(url, rounds, requests)
    show(measured)
    worst, database, clients = max(
        (found.ratio, database, clients)
        for database, by_clients in measured.items()
        for clients, found in by_clients.items()
    )
    print(f"The worst of these ratios is the result: {database}, clients: {clients}.")
    print(json.dumps({"accept_over_bare_fastapi": round(worst, 2)}))


if __name__ == "__main__":
    main()
