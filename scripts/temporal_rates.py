"""Why Temporal stands above the ledger and not in its place: workflows a second of its development
server beside jobs a second of the ledger, both durable, on this machine.

`python -m scripts.temporal_rates`; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scripts.bench_ledger.beside_celery import our_jobs_per_s
    from scripts.servers.temporal import TemporalServer

QUEUE = "rates"
AT_ONCE = 50


@activity.defn
async def nothing() -> str:
    """An activity that costs nothing by itself."""
    return "done"


@workflow.defn
class Bare:
    """Begins and ends."""

    @workflow.run
    async def run(self) -> str:
        """Its end."""
        return "done"


@workflow.defn
class WithActivity:
    """As a queue of jobs would be: one activity each."""

    @workflow.run
    async def run(self) -> str:
        """The activity's result."""
        return await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(minutes=1))


KINDS = {"workflows_per_s": Bare.run, "activities_per_s": WithActivity.run}


async def workflows_per_s(address: str, kind: Callable[..., Any], count: int) -> float:
    """Started and ended, AT_ONCE at a time, by one worker."""
    client, turns = await Client.connect(address), asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turns:
            await client.execute_workflow(kind, id=f"rate-{uuid4()}", task_queue=QUEUE)

    workflows = [Bare, WithActivity]
    async with Worker(client, task_queue=QUEUE, workflows=workflows, activities=[nothing]):
        await one()
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - began)


def main() -> None:
    """Measure both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=10_000)
    args = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        with TemporalServer(Path(folder)) as temporal:
            for name, kind in (
                ("workflows_per_s", Bare.run),
                ("activities_per_s", WithActivity.run),
            ):
                rate = asyncio.run(workflows_per_s(temporal.address, kind, args.workflows))
                found[name] = round(rate, 1)
                print(f"{name}: {found[name]}")
        found["ledger_jobs_per_s"] = round(our_jobs_per_s(f"sqlite:///{folder}/l.db", args.jobs), 1)
    found["ledger_over_temporal"] = round(found["ledger_jobs_per_s"] / found["activities_per_s"], 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
