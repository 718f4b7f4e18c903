"""`make bench-families`: diffusers pipelines in the running batch, beside stock ones behind a lock.
Random weights, on a CPU; the last line is one JSON object.

    python -m scripts.families --renders 60 --only waits seam drops
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from engine.decoders.diffusers.decoder import DiffusersDecoder
from scripts.families.checkpoints import KINDS, Kind
from scripts.families.drops import leaked_bytes
from scripts.families.equality import equal_classes
from scripts.families.loras import MIXED, ratios
from scripts.families.seam import CLASSES, measured
from scripts.families.stock import Stock
from scripts.families.waits import STEPS, Measured, arrivals, in_batches, one_at_a_time
from scripts.report import Goals, missed, say, table
from tests.families import kit

GOALS: Goals = {
    "pipelines_equal": (">=", 20),
    "p95_wait_over_one_at_a_time": ("<=", 0.5),
    "images_per_s_over_one_at_a_time": (">=", 1.0),
    "seam_ms_per_pass": ("<=", 1.0),
    "lora_mixed_over_plain": (">=", 0.9),
    "leaked_bytes_after_1000_drops": ("<=", 0),
}
LOAD = 0.8
"""Of what the stock pipeline draws one at a time."""
SLOTS = 8
SEAM_REPEATS, LORA_TIMES = 5, 5
Found = dict[str, float]


def equality(_: Path, __: int) -> Found:
    """Which classes draw the stock pipeline's pictures."""
    equal, other = equal_classes()
    say(f"equal to stock: {', '.join(sorted(equal))}")
    if other:
        say(f"not equal: {', '.join(sorted(other))}")
    return {"pipelines_equal": len(equal)}


def waits(scratch: Path, renders: int) -> Found:
    """Of both kinds of model the worse ratio."""
    found = [_waits(name, kind, scratch / str(i), renders) for i, (name, kind) in _numbered()]
    slowest = max(one["p95_wait_over_one_at_a_time"] for one in found)
    fewest = min(one["images_per_s_over_one_at_a_time"] for one in found)
    return {
        "p95_wait_over_one_at_a_time": slowest,
        "images_per_s_over_one_at_a_time": fewest,
    }


def _numbered() -> list[tuple[int, tuple[str, Kind]]]:
    return list(enumerate(KINDS.items()))


def _waits(name: str, kind: Kind, folder: Path, renders: int) -> Found:
    plain = kind.spec()
    kind.save(folder)
    stock, decoder = Stock(folder), DiffusersDecoder(folder)
    capacity = 1 / (stock.seconds_per_pass(plain) * statistics.mean(STEPS))
    calm = arrivals(plain, renders, LOAD * capacity, seed=1)
    flood = arrivals(plain, renders // 4, None, seed=2)
    alone, batched = one_at_a_time(stock.draw, calm), in_batches(decoder, SLOTS, calm)
    alone_full, batched_full = one_at_a_time(stock.draw, flood), in_batches(decoder, SLOTS, flood)
    for title, one in (
        (f"{name}, one at a time, load {LOAD}", alone),
        (f"{name}, ours, load {LOAD}", batched),
        (f"{name}, one at a time, saturated", alone_full),
        (f"{name}, ours, saturated", batched_full),
    ):
        _show(title, one)
    return {
        "p95_wait_over_one_at_a_time": batched.p95_wait / alone.p95_wait,
        "images_per_s_over_one_at_a_time": batched_full.images_per_s / alone_full.images_per_s,
    }


def _show(title: str, one: Measured) -> None:
    if one.failed:
        raise RuntimeError(f"{title}: {len(one.failed)} renders failed: {one.failed[0]}")
    median = statistics.median(one.waits)
    say(f"{title:46} wait p50 {median:7.2f} s, p95 {one.p95_wait:7.2f} s, {one.images_per_s:.3f}/s")


def seam(scratch: Path, _: int) -> Found:
    """Of the dearest of a few classes."""
    kit.SCRATCH[:] = [scratch]
    found = {name: measured(name, SEAM_REPEATS) for name in CLASSES}
    for name, times in found.items():
        say(f"{name}  {times}")
    return {"seam_ms_per_pass": max(times.median("pass") for times in found.values())}


def loras(_: Path, __: int) -> Found:
    """Rows of one forward with LoRAs of their own."""
    return {"lora_mixed_over_plain": ratios(LORA_TIMES)[MIXED]}


def drops(scratch: Path, _: int) -> Found:
    """Renders dropped in the middle."""
    kit.SCRATCH[:] = [scratch]
    name = CLASSES[0]
    decoder = DiffusersDecoder(kit.folder(name))
    return {"leaked_bytes_after_1000_drops": leaked_bytes(decoder, kit.spec(kit.Case(name, name)))}


PARTS: Mapping[str, Callable[[Path, int], Found]] = {
    "equality": equality,
    "waits": waits,
    "seam": seam,
    "loras": loras,
    "drops": drops,
}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="Diffusers pipelines beside stock ones.")
    parser.add_argument("--renders", type=int, default=60, help="of each run of waits")
    parser.add_argument("--only", nargs="*", choices=sorted(PARTS), default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.only:
            found |= PARTS[name](Path(scratch), options.renders)
    measured: Goals = {key: goal for key, goal in GOALS.items() if key in found}
    for line in table(measured, {"found": found}):
        say(line)
    say(f"missed: {', '.join(missed(measured, found)) or 'none'}")
    say(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
