"""What event streams cost one gateway's watch while there are more and more of them.

Real: the gateway's watch (serve_app.delivery.watch), the ledger (SQLite), one waiting job for each
watcher. Not real: no sockets; a watcher is the generator that a stream of events reads.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, WHALE, Backlog, copy, recount, wish
from scripts.growth.fit import Kind, Row
from scripts.growth.ledgers import LEASE_SECONDS, TIERS, closing_engine, sqlite_without_disk
from scripts.report import say
from serve_app.delivery.watch import JobWatch

GROWS, ON = "watchers", "JobWatch"
SECONDS = 3.0
"""Until all is quiet, and that CPU is measured for."""
_BASE = 50


def measure(sizes: Sequence[int], repeats: int, folder: Path) -> list[Row]:
    """Until a change is told to its watcher, CPU of each second, and memory."""
    told: dict[int, list[float]] = {}
    cpu: dict[int, list[float]] = {}
    memory: dict[int, list[float]] = {}
    for size in sizes:
        with sqlite_without_disk(folder) as url, closing(SqlLedger(url, tiers=TIERS)) as ledger:
            template = ledger.submit(wish(WHALE)).job.id
            copy(url, template, 0, Backlog(size + _BASE, 1000), {})
            recount(url, template)
            with closing_engine(url) as connection:
                ids = connection.exec_driver_sql("select id from jobs").scalars().all()
            told[size], cpu[size], held = asyncio.run(_watch(ledger, ids, repeats))
            memory[size] = [held]
        say(f"  {size:,} watchers: told after {told[size][0]:.0f} ms, {cpu[size][0]:.2f} s/s, "
            f"{held:.1f} MiB")  # fmt: skip
    return [
        Row(GROWS, ON, "a change until it is told", "ms", Kind.OPERATION, told),
        Row(GROWS, ON, "CPU in a second", "s", Kind.TOTAL, cpu),
        Row(GROWS, ON, "memory", "MiB", Kind.TOTAL, memory),
    ]


async def _watch(
    ledger: SqlLedger, ids: Sequence[str], repeats: int
) -> tuple[list[float], list[float], float]:
    front = AsyncLedger(ledger)
    watch = JobWatch(front, 120.0)
    heard: dict[str, asyncio.Future[float]] = {}
    page = ledger.claim(LANE, "bench", _BASE, LEASE_SECONDS)  # what is left waits
    gc.collect()
    tracemalloc.start()

    async def stream(job: Job) -> None:
        async for state in watch.snapshots(job):
            if state.state is not job.state and not (known := heard[job.id]).done():
                known.set_result(time.perf_counter())

    waiting = await _waiting(front, ids)
    heard.update((job.id, asyncio.get_running_loop().create_future()) for job in waiting)
    streams = [asyncio.create_task(stream(job)) for job in waiting]
    await asyncio.sleep(SECONDS)
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(SECONDS)
    used = (time.process_time() - cpu) / (time.perf_counter() - began)
    spent = []
    for _ in range(min(repeats, len(waiting))):
        (job,) = await front.claim(LANE, "bench", 1, LEASE_SECONDS)
        claimed = time.perf_counter()
        spent.append(1000 * (await heard[job.id] - claimed))
    assert len(page) == _BASE
    for one in streams:
        one.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    await watch.close()
    return spent, [max(used, 1e-3)], memory


async def _waiting(front: AsyncLedger, ids: Sequence[str]) -> list[Job]:
    """Those of them that are not claimed."""
    found: list[Job] = []
    for first in range(0, len(ids), 1000):
        found += await front.get_many(ids[first : first + 1000])
    return [job for job in found if job.worker is None]
