"""`make bench-safety`: what the screens find and what they block wrongly.

    OMP_NUM_THREADS=1 python -m scripts.bench_safety [--only prompts weapons aborts ...]

prompts: the fresh set through the real encoder and screen. weapons: pictures of the embedded model
in 16 passes, 1,020 of harmless prompts and 104 of weapons; drawing them takes minutes the first
time. looks: how many of them any of their looks blocks, by both screens and the presets. agreement:
the adult-content screen's quick look beside its full network. aborts, throughput, killing: the
service in this process with two previews of each render screened, see abort.py, throughput.py,
killing.py. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch

from engine.capabilities import DEFAULT_WEIGHTS
from engine.concept_screen import ConceptScreen
from scripts.bench_safety.abort import measure_aborts
from scripts.bench_safety.agreement import measure_agreement
from scripts.bench_safety.killing import measure_killing
from scripts.bench_safety.looks import measure_looks
from scripts.bench_safety.prompts import measure_prompts
from scripts.bench_safety.throughput import measure_throughput
from scripts.weapons.drawings import draw_sets
from scripts.weapons.train import measure


def measure_weapons() -> dict[str, float]:
    """On the set that neither weights nor threshold were chosen by."""
    draw_sets(["measured"])
    found = measure(DEFAULT_WEIGHTS, ConceptScreen(DEFAULT_WEIGHTS).threshold)
    print(found)
    return {"weapons_recall": found["recall"], "weapons_fpr": found["false_alarms"]}


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "prompts": measure_prompts,
    "weapons": measure_weapons,
    "agreement": measure_agreement,
    "looks": measure_looks,
    "aborts": measure_aborts,
    "throughput": measure_throughput,
    "killing": measure_killing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parts = parser.parse_args().only
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for part in parts:
        found |= PARTS[part]()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
