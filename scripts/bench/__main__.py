"""`python -m scripts.bench [--quick]`: prints what it does, and one JSON object on the last line.

Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench import sides, tuning
from scripts.bench.company import IDLE_SECONDS, Company, idle_cores, passes_alone
from scripts.bench.figures import (
    BATCHING,
    GOALS,
    LEAVING,
    LOCK,
    OURS,
    SideFigures,
    poisson_rate,
    ratios,
    rotated,
)
from scripts.bench.measure import (
    first_preview_fraction,
    idle_pss_bytes,
    latencies,
    saturate,
    warm,
)
from scripts.report import missed, say
from serve_app.config.serve_file import load_serve_config


@dataclass(frozen=True, slots=True)
class Extent:
    """How long it measures. images: of one saturation. seconds: of one Poisson run. rivals: those
    that are measured when none are named; LEAVING in the first repeat alone, as it has no goal."""

    repeats: int
    images: int
    seconds: float
    tuning_images: int
    previews: int
    rivals: tuple[str, ...]


COMPARED = (LOCK, *BATCHING)
FULL = Extent(2, images=56, seconds=18, tuning_images=16, previews=8, rivals=(*COMPARED, LEAVING))
QUICK = Extent(1, images=40, seconds=15, tuning_images=16, previews=6, rivals=COMPARED)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the stack, its engine and its rivals.")
    parser.add_argument("--quick", action="store_true", help="about four minutes, rougher figures")
    parser.add_argument("--config", type=Path, default=Path("configs/laptop.yaml"))
    parser.add_argument("--only", nargs="+", help="only these sides beside ours")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="counts to try")
    options = parser.parse_args()
    config = load_serve_config(options.config)
    began = time.monotonic()
    bench = Bench(config, QUICK if options.quick else FULL, options.only, options.threads)
    report = bench.run()
    report["seconds"] = round(time.monotonic() - began, 1)
    report["quick"] = options.quick
    say(json.dumps(report))


class Bench:
    """One run. config: of our side; the rivals draw with the same model and settings."""

    def __init__(
        self, config: dict[str, Any], extent: Extent, only: list[str] | None, threads: list[int]
    ) -> None:
        self._config = config
        self._threads = threads
        self._extent = extent
        self._recipe = sides.recipe_of(config)
        self._rivals = [n for n in (*COMPARED, LEAVING) if n in (only or extent.rivals)]
        self._figures = {name: SideFigures() for name in (OURS, *self._rivals)}
        self._engine_rates: list[float] = []
        self._previews: list[float] = []
        self._pss: list[int] = []
        self._companies: list[Company] = []

    def run(self) -> dict[str, Any]:
        """Tune, measure in turns, and put the figures together."""
        say("finding the best layout of each side")
        images = self._extent.tuning_images
        self._engine, engines = tuning.best_engine(self._recipe, images, self._threads, say)
        lock, locks = tuning.best_lock(self._recipe, images, self._threads, say)
        self._layouts = {LOCK: lock}
        tuned: dict[str, Any] = {"engine": engines, LOCK: locks}
        if set(self._rivals) - {LOCK}:
            leaves = {name: name == LEAVING for name in self._rivals if name != LOCK}
            tried = sorted(set(leaves.values()))
            static = tuning.static_rates(self._recipe, images, self._threads, say, tried)
            for name, leave in leaves.items():
                fitting = [layout for layout in static if layout.rows_leave is leave]
                self._layouts[name] = max(fitting, key=static.__getitem__)
            tuned["static_batches"] = {tuning.name_of(k): round(v, 3) for k, v in static.items()}
        for repeat in range(self._extent.repeats):
            self._repeat(repeat)
        return self._report(tuned)

    def _repeat(self, repeat: int) -> None:
        rivals = [name for name in self._rivals if repeat == 0 or name != LEAVING]
        order = [OURS, *rivals]  # the first repeat finds our capacity before anything else
        for name in rotated(order, repeat):
            with self._side(name) as url:
                self._measure(name, url, repeat)
        figures = tuning.engine_run(self._recipe, self._engine, self._extent.images)
        self._engine_rates.append(figures["images_per_s"])
        say(f"engine: {figures['images_per_s']:.2f} images/s")
        passes = passes_alone(self._config, self._extent.images)
        self._companies.append(Company(self._figures[OURS].saturations[-1], passes, self._idle))
        self._companies[-1].print()

    def _side(self, name: str) -> AbstractContextManager[str]:
        if name == OURS:
            return sides.ours(self._config)
        starters: dict[str, Callable[..., AbstractContextManager[str]]] = {
            LOCK: sides.fastapi_lock,
            "litserve": sides.litserve,
            LEAVING: sides.litserve,
            "serve_batch": sides.serve_batch,
        }
        return starters[name](self._recipe, self._layouts[name])

    def _measure(self, name: str, url: str, repeat: int) -> None:
        side = self._figures[name]
        if name == OURS:
            time.sleep(IDLE_SECONDS)
            self._pss.append(idle_pss_bytes())
        clients = self._clients(name)
        warm(url, clients)
        if name == OURS:
            self._idle = idle_cores()
        side.saturations.append(saturate(url, clients, self._extent.images))
        mine = self._figures[OURS].saturations[0].images_per_s
        side.rate = side.rate or poisson_rate(side.saturations[0].images_per_s, mine)
        side.latencies += latencies(url, side.rate, self._extent.seconds, seed=repeat)
        if name == OURS:
            numbers = range(self._extent.previews)
            self._previews += [first_preview_fraction(url, number) for number in numbers]
        say(f"{name}: {side.saturations[-1].images_per_s:.2f} images/s, p99 {side.p(99):.2f} s")

    def _clients(self, name: str) -> int:
        """Enough requests under way that nothing that can work is idle."""
        if name == OURS:
            return sides.clients_of(self._config)
        layout = self._layouts[name]
        return 2 * layout.workers * layout.batch + 2

    def _report(self, tuned: dict[str, Any]) -> dict[str, Any]:
        engine = statistics.median(self._engine_rates)
        keys = ratios(self._figures, engine)
        companies = [company.seconds for company in self._companies]
        keys["company_cpu_s_per_picture"] = statistics.median(companies)
        keys["first_preview_fraction"] = statistics.median(self._previews)
        keys["idle_pss_bytes"] = statistics.median(self._pss)
        return {
            **{key: round(value, 4) for key, value in keys.items()},
            "missed": missed(GOALS, keys),
            "company": self._companies[-1].summary(),
            "engine": {"images_per_s": round(engine, 3), "given": str(self._engine)},
            **{name: side.summary() for name, side in self._figures.items()},
            "given": {name: tuning.name_of(self._layouts[name]) for name in self._rivals},
            "tuned": tuned,
            "family": self._recipe.family,
            "machine": machine(),
        }


def machine() -> str:
    """Cores and processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0] if names else platform.processor()}"


if __name__ == "__main__":
    main()
