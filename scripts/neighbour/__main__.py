"""`make bench-neighbour`: a quiet tenant's latency while another tenant abuses the service, over
its latency in calm times. A live cluster with paced decoders; the last line is one JSON object.

A third tenant keeps the decoders busy all the while, in calm times too, so that what is compared is
the abuse and not a lane that draws with one that does not. Calm and abuse take turns, and calm is
all calm turns together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.children import await_ready, children, read_line, tell
from scripts.cluster import args_of, own_config, running
from scripts.load import percentile
from scripts.neighbour.abuses import ABUSES, KEYS, SPENT
from scripts.neighbour.victim import KEYS as VICTIMS
from scripts.neighbour.victim import Latencies, Victim
from scripts.report import rich_table
from scripts.wire import ASYNC, GENERATIONS, Client
from serve_app.config.serve_file import load_serve_config

SLOTS, REPLICAS, PASS_MS = 2, 1, 250.0
"""One picture of eight passes a second: drawing itself should cost next to no processor time."""
BACKGROUND = 8
PREPARE_SECONDS = 300.0
END_SECONDS = 60.0
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What the quiet tenant saw during one abuse, and what the abuser was answered."""

    abuse: str
    seen: Latencies
    statuses: Counter[str]


def settings(folder: Path) -> dict[str, Any]:
    """The paced lane; the quiet tenant has the same tier as the abuser."""
    config = own_config(load_serve_config(Path("configs/paced.yaml")), folder)
    args = args_of(config)
    args["model"]["options"] = {"pass_ms": PASS_MS, "per_row_ms": 0.0}
    args["decoder"] |= {"slots": SLOTS, "replicas": REPLICAS}
    args["tiers"] = {"free": {"weight": 1}, "little": {"weight": 1, "images_per_day": 1}}
    args["keys"] = [
        {
            "key": key,
            "tenant": key.removeprefix("sk-"),
            "tier": "little" if key == KEYS[SPENT] else "free",
        }
        for key in (*VICTIMS, "sk-busy", *KEYS.values())
    ]
    return config


async def background(client: Client) -> None:
    """A few orders of a third tenant wait at any time."""
    body = json.dumps({"prompt": "a busy lane", "size": "256x256", "quality": "low"}).encode()
    waiting: list[str] = []
    while True:
        while len(waiting) < BACKGROUND:
            reply = await client.ask("POST", GENERATIONS, body, ASYNC)
            waiting.append(reply.header("x-job-id"))
        await asyncio.sleep(1.0)
        reply = await client.ask("GET", f"/v1/jobs/{waiting[0]}")
        if reply.status == 200 and json.loads(reply.body)["state"] == "succeeded":
            waiting.pop(0)


async def turn(victim: Victim, url: str, abuse: str, seconds: float) -> Turn:
    """One abuse, prepared first; the quiet tenant is measured while it goes on."""
    command = ["-m", "scripts.neighbour.abuses", url, abuse, str(seconds + 4)]
    with children([command]) as [attacker]:
        async with asyncio.timeout(PREPARE_SECONDS):
            await asyncio.to_thread(await_ready, [attacker])
        tell(attacker, "go")
        await asyncio.sleep(2.0)
        seen = await victim.measure(seconds)
        async with asyncio.timeout(END_SECONDS):
            statuses = json.loads(await asyncio.to_thread(read_line, attacker))
            await asyncio.to_thread(attacker.wait)
    return Turn(abuse, seen, Counter(statuses))


async def take_turns(
    url: str, abuses: Sequence[str], calm_seconds: float, seconds: float
) -> tuple[Victim, Latencies, list[Turn], int]:
    """Calm and abuse in turn; then every kept order is waited for."""
    victim, calm, turns = Victim(Client(url, VICTIMS[0]), Client(url, VICTIMS[1])), Latencies(), []
    busy = asyncio.create_task(background(Client(url, "sk-busy")))
    await victim.measure(3.0)  # warm
    for abuse in abuses:
        quiet = await victim.measure(calm_seconds)
        calm.get.extend(quiet.get)
        calm.order.extend(quiet.order)
        turns.append(await turn(victim, url, abuse, seconds))
        print(f"{abuse}: answered {dict(turns[-1].statuses)}", flush=True)
    busy.cancel()
    unanswered = await victim.unanswered(PATIENCE_SECONDS)
    victim.close()
    return victim, calm, turns, unanswered


def judge(calm: Latencies, turns: Sequence[Turn]) -> dict[str, float]:
    """By abuse, the slowest 1 % over that of calm times; the worse of questions and orders."""
    return {
        one.abuse: round(
            max(_p99(one.seen.get) / _p99(calm.get), _p99(one.seen.order) / _p99(calm.order)), 2
        )
        for one in turns
    }


def _p99(seconds: Sequence[float]) -> float:
    return percentile(seconds, 99)


def show(calm: Latencies, turns: Sequence[Turn], ratios: dict[str, float]) -> None:
    """The table."""
    columns = ("abuse", "GET p50 ms", "GET p99 ms", "order p50 ms", "order p99 ms", "over calm")
    rows = []
    for name, seen in [("calm", calm), *((one.abuse, one.seen) for one in turns)]:
        kinds = (seen.get, seen.order)
        cells = [f"{1000 * percentile(kind, q):.1f}" for kind in kinds for q in (50, 99)]
        rows.append((name, *cells, ratios.get(name, 1.0)))
    rich_table("a quiet tenant beside abuse", columns, rows)


def run(abuses: Sequence[str], calm_seconds: float, seconds: float) -> dict[str, Any]:
    """Start, take turns, stop, judge."""
    with (
        tempfile.TemporaryDirectory(prefix="mp-neighbour-") as name,
        running(settings(Path(name))) as cluster,
    ):
        victim, calm, turns, unanswered = asyncio.run(
            take_turns(cluster.api_url, abuses, calm_seconds, seconds)
        )
    ratios = judge(calm, turns)
    show(calm, turns, ratios)
    return {
        "victim_p99_over_calm": max(ratios.values()),
        "victim_unanswered": unanswered,
        "victim_wrong_answers": sum(victim.wrong.values()),
        "over_calm": ratios,
        "calm_get_p99_ms": round(1000 * _p99(calm.get), 1),
        "calm_order_p99_ms": round(1000 * _p99(calm.order), 1),
        "answered": {one.abuse: dict(one.statuses) for one in turns},
        "victim_orders_kept": len(victim.kept),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Abuse the service beside a quiet tenant.")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each abuse")
    parser.add_argument("--calm", type=float, default=20.0, help="seconds before each abuse")
    parser.add_argument("--only", nargs="*", choices=sorted(ABUSES), help="some of the abuses")
    options = parser.parse_args()
    print(json.dumps(run(options.only or list(ABUSES), options.calm, options.seconds)))


if __name__ == "__main__":
    main()
