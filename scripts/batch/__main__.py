"""`python -m scripts.batch`: prints what it does and a table; the last line is one JSON object.

Two measurements, each with processes of its own. A batch of 50,000 lines is sent by the official
SDK to a gateway until all are accepted. And a lane of the `paced` decoder draws a sawtooth of live
orders twice, the same ones: alone, and while a batch waits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
from openai.types import Batch

from jobs.job import Job, RenderState
from jobs.request import BATCH_TIER
from jobs.sql.sql_ledger import SqlLedger
from scripts.batch.gateway import KEY, PASSES, open_ledger
from scripts.children import Child, await_ready, children
from scripts.fairness.worker import LaneOrder, command, wish
from scripts.load import percentile
from scripts.report import say, table
from serve_app.config.sections import HEADROOM
from serve_app.operate.local_cluster import free_port

GOALS = {
    "idle_fill": (">=", 0.9),
    "live_p99_over_without": ("<=", 1.05),
    "create_50k_s": ("<=", 60.0),
    "create_peak_rss_mb": ("<=", 300.0),
}
LANE = "default"
ROOT = Path(__file__).parents[2]
ENDPOINT = "/v1/images/generations"
SLOTS, PASS_MS = 8, 200.0
"""Passes so long that what two cores need beside them does not show."""
TOOTH_SECONDS = 10.0
PEAK_LOAD = 0.9
"""Of what the lane draws, at the top of each tooth; half of it in the mean."""
PATIENCE_SECONDS = 300.0


def line(number: int) -> str:
    body = {"prompt": f"a red fox, number {number}", "size": "128x128", "seed": number}
    return json.dumps({"custom_id": f"r{number}", "method": "POST", "url": ENDPOINT, "body": body})


@contextmanager
def gateway(directory: Path) -> Iterator[tuple[openai.OpenAI, Child]]:
    """The SDK at a new gateway, and its process."""
    port = free_port()
    with children([["-m", "scripts.batch.gateway", str(directory), str(port)]], cwd=ROOT) as made:
        await_ready(made)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY) as client:
            yield client, made[0]


def send(client: openai.OpenAI, lines: int) -> Batch:
    data = "\n".join(line(number) for number in range(lines)).encode()
    file = client.files.create(file=("lines.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")


def accepted(client: openai.OpenAI, batch: Batch) -> Batch:
    """Once its lines were checked. RuntimeError when it was refused."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (batch := client.batches.retrieve(batch.id)).status == "validating":
        if time.monotonic() > deadline:
            raise RuntimeError("the batch was not accepted in time")
        time.sleep(0.25)
    if batch.status != "in_progress":
        raise RuntimeError(f"the batch is {batch.status}: {batch.errors}")
    return batch


def peak_mb(child: Child) -> float:
    """Of its resident memory."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    (peak,) = (row.split()[1] for row in status.splitlines() if row.startswith("VmHWM"))
    return int(peak) / 1024


def accepting(lines: int) -> dict[str, float]:
    """A whole batch from its upload until all lines are rows."""
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as (client, child):
        before, began = peak_mb(child), time.monotonic()
        batch = accepted(client, send(client, lines))
        seconds = time.monotonic() - began
        assert batch.request_counts is not None
        assert batch.request_counts.total == lines
        peak = peak_mb(child)
    say(f"  {lines} lines accepted in {seconds:.1f} s; {before:.0f} MB before, {peak:.0f} at most")
    return {"create_50k_s": seconds, "create_peak_rss_mb": peak}


def teeth(seconds: float, seed: int) -> list[float]:
    """When live orders are due: at a rate that rises from nothing to its peak, again and again."""
    chance, at, due = random.Random(seed), 0.0, list[float]()
    peak = PEAK_LOAD * SLOTS / (PASSES * PASS_MS / 1000)
    while (at := at + chance.expovariate(peak)) < seconds:
        if chance.random() < at % TOOTH_SECONDS / TOOTH_SECONDS:
            due.append(at)
    return due


@dataclass(frozen=True, slots=True)
class Drawn:
    """One pass of the load. live: seconds from due to done. batch, live_passes: that were drawn."""

    live: Sequence[float]
    live_passes: int
    batch_passes: int
    seconds: float


def drawing(seconds: float, lines: int) -> Drawn:
    """The load on a new lane; lines: of a batch that waits all the time, or 0."""
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as (client, _):
        ledger = open_ledger(Path(folder))
        lane = LaneOrder(f"sqlite:///{folder}/ledger.db", LANE, SLOTS, PASS_MS, 0.0, HEADROOM)
        with children([command(lane)], cwd=ROOT) as running:
            await_ready(running)
            if lines:
                accepted(client, send(client, lines))
                _await_slots(ledger)
            before, began = _batch_passes(ledger), time.time()
            ids = asyncio.run(_order(ledger, [began + at for at in teeth(seconds, 1)]))
            time.sleep(max(0.0, began + seconds - time.time()))
            batch_passes, took = _batch_passes(ledger) - before, time.time() - began
            live_passes = sum(_passes(job) for job in ledger.get_many(list(ids)))
            done = _all_ended(ledger, list(ids))
        ledger.close()
    live = sorted((job.finished_at or 0.0) - ids[job.id] for job in done)
    return Drawn(live, live_passes, batch_passes, took)


async def _order(ledger: SqlLedger, due: Sequence[float]) -> dict[str, float]:
    """Each at its time; when it was due, by its id."""
    found = dict[str, float]()

    async def one(number: int, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.time()))
        cost = PASSES * PASS_MS / 1000 / SLOTS
        request = wish(lane=LANE, tier="free", tenant=f"live {number % 50}", seed=1000 * number,
                       passes=PASSES, cost_seconds=cost)  # fmt: skip
        found[(await asyncio.to_thread(ledger.submit, request)).job.id] = at

    await asyncio.gather(*(one(number, at) for number, at in enumerate(due)))
    return found


def _passes(job: Job) -> int:
    done = RenderState.SUCCEEDED
    return sum(PASSES if one.state is done else one.pass_no for one in job.renders)


def _batch_passes(ledger: SqlLedger) -> int:
    """Drawn of all lines so far."""
    lines = (job for job in ledger.recent("bench", 5000) if job.request.share_tier == BATCH_TIER)
    return sum(_passes(job) for job in lines)


def _await_slots(ledger: SqlLedger) -> None:
    """Until the batch has all slots."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _batch_passes(ledger) < SLOTS * PASSES:
        if time.monotonic() > deadline:
            raise RuntimeError("the batch does not begin")
        time.sleep(0.1)


def _all_ended(ledger: SqlLedger, ids: list[str]) -> list[Job]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    jobs = ledger.get_many(ids)
    while not all(job.ended for job in jobs):
        if time.monotonic() > deadline:
            raise RuntimeError("live jobs did not end")
        time.sleep(0.1)
        jobs = ledger.get_many(ids)
    return jobs


def filling(seconds: float) -> dict[str, float]:
    """Both passes of the load."""
    alone, beside = drawing(seconds, 0), drawing(seconds, 3000)
    slot_passes = SLOTS * beside.seconds / (PASS_MS / 1000)
    idle = slot_passes - beside.live_passes
    for name, one in (("alone", alone), ("beside a batch", beside)):
        say(
            f"  {len(one.live)} live orders {name}: p50 {percentile(one.live, 50):.2f} s, "
            f"p99 {percentile(one.live, 99):.2f} s, {one.live_passes} passes, "
            f"and {one.batch_passes} of the batch"
        )
    return {
        "idle_fill": beside.batch_passes / idle,
        "live_p99_over_without": percentile(beside.live, 99) / percentile(alone.live, 99),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what batches cost, and what they fill.")
    parser.add_argument("--lines", type=int, default=50_000, help="of the batch that is accepted")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each pass of live load")
    options = parser.parse_args()
    report = {**accepting(options.lines), **filling(options.seconds)}
    figures = {key: round(report[key], 4) for key in GOALS}
    for row in table(GOALS, {"sqlite": figures}):
        say(row)
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
