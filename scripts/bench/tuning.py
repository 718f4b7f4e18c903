"""Finds how each side uses this machine best, by measuring: processes, threads, batch, slots.

In processes of its own and without a server, so that a layout costs seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from scripts.bench.sides import Layout
from scripts.bench.workload import Recipe
from scripts.children import Child, await_ready, children, read_line, tell

Say = Callable[[str], None]
Threads = Sequence[int]
Rates = dict[str, float]
BATCHES = (2, 4, 8)
CORES = ((1, 2), (2, 1))
"""(processes, threads of each) on two cores."""


@dataclass(frozen=True, slots=True)
class EngineLayout:
    threads: int
    engines: int
    slots: int


ENGINES = (
    EngineLayout(2, 1, 4), EngineLayout(2, 1, 8), EngineLayout(1, 2, 2), EngineLayout(1, 2, 4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes of one kind with the same recipe, told the same thing at once."""

    running: Sequence[Child]

    def ask(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """commands[i] to process i, all at the same time; their answers in order."""
        for child, command in zip(self.running, commands, strict=True):
            tell(child, json.dumps(command))
        return [json.loads(read_line(child)) for child in self.running]


@contextmanager
def started(what: str, recipe: Recipe, count: int = 1) -> Iterator[Workers]:
    """`count` of them, ready. what: the first argument of scripts.bench.processes."""
    command = ["-m", "scripts.bench.processes", what, json.dumps(recipe.to_json())]
    with children([command] * count) as running:
        await_ready(running)
        yield Workers(running)


def static_rates(
    recipe: Recipe,
    images: int,
    threads_tried: Threads,
    say: Say,
    leaves_tried: Sequence[bool] = (True, False),
) -> dict[Layout, float]:
    """images/s of every layout that a batching rival could be given. leaves_tried: whether finished
    rows leave."""
    found: dict[Layout, float] = {}
    for workers, threads in CORES:
        if threads not in threads_tried:
            continue
        with started("static", replace(recipe, threads=threads), workers) as w:
            for batch in BATCHES:
                for leave in leaves_tried:
                    layout = Layout(workers, threads, batch, leave)
                    found[layout] = _static_rate(w, layout, images)
                    say(f"  {layout}: {found[layout]:.2f} images/s")
    return found


def _static_rate(workers: Workers, layout: Layout, images: int) -> float:
    batches = max(1, images // (layout.batch * layout.workers))
    common = {
        "batch": layout.batch,
        "rows_leave": layout.rows_leave,
        "batches": batches,
    }
    starts = [number * batches * layout.batch for number in range(layout.workers)]
    answers = workers.ask([{**common, "first": first} for first in starts])
    return float(sum(answer["images_per_s"] for answer in answers))


def best_lock(
    recipe: Recipe, images: int, threads_tried: Threads, say: Say
) -> tuple[Layout, Rates]:
    """FastAPI + lock is one process: only its threads can be chosen."""
    found: dict[Layout, float] = {}
    for threads in threads_tried:
        layout = Layout(workers=1, threads=threads)
        with started("static", layout.recipe(recipe)) as w:
            found[layout] = _static_rate(w, layout, images)
        say(f"  {layout}: {found[layout]:.2f} images/s")
    return max(found, key=found.__getitem__), {name_of(k): round(v, 3) for k, v in found.items()}


def best_engine(
    recipe: Recipe, images: int, threads_tried: Threads, say: Say
) -> tuple[EngineLayout, Rates]:
    """The fastest way to run the engine in one process."""
    found: dict[EngineLayout, float] = {}
    for layout in [one for one in ENGINES if one.threads in threads_tried]:
        found[layout] = engine_run(recipe, layout, images)["images_per_s"]
        say(f"  {layout}: {found[layout]:.2f} images/s")
    return max(found, key=found.__getitem__), {str(k): round(v, 3) for k, v in found.items()}


def engine_run(recipe: Recipe, layout: EngineLayout, images: int) -> dict[str, Any]:
    """One measurement in a fresh process, warmed by a few pictures."""
    command = {"engines": layout.engines, "slots": layout.slots}
    with started("engine", replace(recipe, threads=layout.threads)) as w:
        w.ask([{**command, "count": 6}])
        return w.ask([{**command, "count": images}])[0]


def name_of(layout: Layout) -> str:
    """What a rival was given, in words."""
    rows = "finished rows leave" if layout.rows_leave else "rows stay to the end"
    return f"{layout.workers} x {layout.threads} threads, batch {layout.batch}, {rows}"
