"""`python -m scripts.bench_rivals [--quick]`: prints what it does, and one JSON object on the last
line. Nothing else should run on the machine meanwhile.

Passes are slept, so the rivals run at the same time, each with devices of its own; ours runs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scripts.bench.measure import BadRun
from scripts.bench_rivals import bento, loads, sides
from scripts.bench_rivals.figures import GOALS, SideFigures, best_rival, ratios, worst
from scripts.bench_rivals.loads import Target
from scripts.bench_rivals.plan import (
    CASES,
    UTILISATION,
    Batching,
    Case,
    best_batching,
    limit_over_best_rival,
)
from scripts.report import missed, rich_table, say

T = TypeVar("T")
SEED = 1


@dataclass(frozen=True, slots=True)
class Extent:
    """Seconds that the parts last, at the rate that the table allows."""

    saturation: float
    poisson: float
    flood: float


FULL = Extent(saturation=24, poisson=30, flood=20)
QUICK = Extent(saturation=12, poisson=12, flood=10)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the stack beside rivals, passes slept.")
    parser.add_argument("--quick", action="store_true", help="shorter, one device only")
    parser.add_argument("--only", nargs="+", default=None, help="cases such as 'flux x 4'")
    parser.add_argument("--rivals", nargs="+", default=[sides.LOCK, *sides.BATCHING])
    options = parser.parse_args()
    cases = [c for c in CASES if c.name in options.only] if options.only else list(CASES)
    if options.quick and not options.only:
        cases = [case for case in cases if case.devices == 1]
    began = time.monotonic()
    without = bento.install() if "bentoml" in options.rivals else None
    if without:
        say(without)
    rivals = [name for name in options.rivals if not (without and name == "bentoml")]
    bench = Bench(QUICK if options.quick else FULL, rivals)
    for case in cases:
        bench.measure(case)
    report = bench.report() | {
        "quick": options.quick, "left_out": without, "seconds": round(time.monotonic() - began, 1),
        "load_average": os.getloadavg(), "cores": os.cpu_count(),
    }  # fmt: skip
    say(json.dumps(report))


@dataclass(slots=True)
class Measured:
    """A case's figures."""

    ours: SideFigures
    rivals: dict[str, SideFigures]
    engine: float
    given: Batching
    limit: float
    """Of images_per_s_over_best_rival, by the table alone."""

    @property
    def keys(self) -> dict[str, float]:
        return ratios(self.ours, self.rivals, self.engine)


@dataclass(slots=True)
class Bench:
    extent: Extent
    rivals: Sequence[str]
    found: dict[str, Measured] = field(default_factory=dict)
    """By the case's name."""

    def measure(self, case: Case) -> None:
        """Rivals, engine, ours."""
        given = best_batching(case)
        say(f"{case.name}: passes of {case.slots} for ours, {given} for rivals; {case.limit:.2f}/s")
        count = max(4 * case.slots * case.devices, round(self.extent.saturation * case.limit))
        rivals = self._rivals(case, given, count)
        best, capacity = best_rival(rivals)
        say(f"  best rival: {best}, {capacity:.3f} images/s")
        engine = sides.engine_alone(case, count)
        say(f"  engine alone: {engine:.3f} images/s")
        with sides.started(sides.OURS, case, given) as target:
            ours = SideFigures()
            self._one(ours, target, case, 2 * case.slots, count, capacity)
        self.found[case.name] = Measured(ours, rivals, engine, given, limit_over_best_rival(case))
        say(f"  {self.found[case.name].keys}")

    def _rivals(self, case: Case, given: Batching, count: int) -> dict[str, SideFigures]:
        """At the same time: each has devices of its own, and hardly needs a processor."""
        clients = 2 * given.batch * case.devices + 2
        found = {name: SideFigures() for name in self.rivals}
        with _all(self.rivals, case, given) as started:
            count_of_warm = 12 * given.batch * case.devices
            works = _each(started, lambda one: _warm(one, clients, count_of_warm))
            targets = [one for one, well in zip(started, works, strict=True) if well]
            if not targets:
                raise BadRun(f"{case.name}: no rival answers with pictures, name others (--rivals)")
            found = {one.name: found[one.name] for one in targets}
            rates = _each(targets, lambda one: loads.saturate(one, clients, count))
            for target, rate in zip(targets, rates, strict=True):
                found[target.name].images_per_s = rate
            _, capacity = best_rival(found)
            near = [one for one in targets if found[one.name].images_per_s > 0.8 * capacity]
            self._later(near, found, capacity)
        for name, figures in found.items():
            say(f"  {name}: {figures.summary()}")
        return found

    def _later(
        self, targets: Sequence[Target], found: dict[str, SideFigures], capacity: float
    ) -> None:
        """The loads that the best rival can carry, for those that can."""
        rate, extent = UTILISATION * capacity, self.extent
        slow = _each(targets, lambda one: loads.at_random(one, rate, extent.poisson, SEED))
        paid = _each(targets, lambda one: loads.in_a_flood(one, capacity, extent.flood, SEED))
        for target, latencies, of_paid in zip(targets, slow, paid, strict=True):
            found[target.name].latencies, found[target.name].paid = latencies, of_paid

    def _one(
        self, ours: SideFigures, target: Target, case: Case, more: int, count: int, capacity: float
    ) -> None:
        clients = 2 * case.slots * case.devices + more
        loads.warm(target, clients, 8 * case.devices)
        ours.images_per_s = loads.saturate(target, clients, count)
        self._later([target], {target.name: ours}, capacity)
        say(f"  ours: {ours.summary()}")

    def report(self) -> dict[str, Any]:
        """A table, and what the last line says."""
        keys = {name: one.keys for name, one in self.found.items()}
        rows = [
            (name, *(f"{keys[name].get(key, float('nan')):.3f}" for key in GOALS), f"{m.limit:.2f}")
            for name, m in self.found.items()
        ]
        rich_table("ours over the best rival", ["case", *GOALS, "table's limit"], rows)
        found = worst(keys)
        return {
            **{key: round(value, 4) for key, value in found.items()},
            "missed": missed(GOALS, found),
            "cases": {name: _summary(one) for name, one in self.found.items()},
        }


def _summary(one: Measured) -> dict[str, Any]:
    return {
        **{key: round(value, 4) for key, value in one.keys.items()},
        "limit_images_per_s_over_best_rival": round(one.limit, 3),
        "engine_images_per_s": round(one.engine, 3),
        "given": str(one.given),
        "ours": one.ours.summary(),
        **{name: rival.summary() for name, rival in one.rivals.items()},
    }


@contextmanager
def _all(names: Sequence[str], case: Case, given: Batching) -> Iterator[list[Target]]:
    """Ray first, in this thread, as it ends with the one that started it; then the others beside
    each other."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        sides_of = {name: sides.started(name, case, given) for name in names}
        of_ray = [stack.enter_context(sides_of.pop(sides.RAY))] if sides.RAY in names else []
        starting = [threads.submit(stack.enter_context, side) for side in sides_of.values()]
        yield of_ray + [one.result() for one in starting]


def _warm(target: Target, clients: int, count: int) -> bool:
    """False, and said, for a rival that does not answer with pictures: it is left out."""
    try:
        loads.warm(target, clients, count)
    except BadRun as error:
        say(f"  left out: {error}")
        return False
    return True


def _each(targets: Sequence[Target], ask: Callable[[Target], T]) -> list[T]:
    """All at once; answers in order."""
    with ThreadPoolExecutor(len(targets)) as threads:
        return list(threads.map(ask, targets))


if __name__ == "__main__":
    main()
