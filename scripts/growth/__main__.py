"""`python -m scripts.growth`: what grows, and how fast; the last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.growth import held, ledgers, replicas, watchers
from scripts.growth.fit import Row, worst
from scripts.report import rich_table, say


@dataclass(frozen=True, slots=True)
class Scale:
    """How far each row goes."""

    waiting: int
    tenants: int
    pictures: int
    replicas: int
    watchers: int
    repeats: int


SCALES = {
    "quick": Scale(30_000, 10_000, 10_000, 100, 2_000, 9),
    "default": Scale(300_000, 100_000, 100_000, 1_000, 20_000, 15),
    "full": Scale(10_000_000, 1_000_000, 10_000_000, 1_000, 20_000, 31),
}
FEW = 4
"""Repeats of what is an average by itself."""


def decades(top: int, least: int = 1) -> list[int]:
    """top and every tenth of it, from `least` on."""
    sizes = [top]
    while sizes[0] // 10 >= least:
        sizes.insert(0, sizes[0] // 10)
    return sizes


Measure = Callable[[Scale, Path], list[Row]]
HELD = 10_000


def of_ledgers(growing: ledgers.Growing, database: str, top: Callable[[Scale], int]) -> Measure:
    """One row of the issue, in one database."""
    return lambda scale, folder: ledgers.measure(
        growing, database, decades(top(scale), 300), scale.repeats, folder
    )


MEASURES: Mapping[str, Measure] = {
    f"{name}-{database}": of_ledgers(growing, database, top)
    for database in ledgers.DATABASES
    for name, growing, top in (
        ("waiting", ledgers.WAITING, lambda scale: scale.waiting),
        ("tenants", ledgers.TENANTS_KNOWN, lambda scale: scale.tenants),
        ("pictures", ledgers.PICTURES, lambda scale: scale.pictures),
    )
} | {
    f"held-{database}": partial(
        lambda database, scale, folder: held.measure(
            database, decades(HELD, 100), scale.repeats, folder
        ),
        database,
    )
    for database in ledgers.DATABASES
} | {
    "dispatcher": lambda scale, folder: replicas.dispatcher(
        decades(scale.replicas), FEW, folder
    ),
    "watchers": lambda scale, folder: watchers.measure(decades(scale.watchers), FEW, folder),
    "router": lambda scale, _: replicas.router(decades(scale.replicas), FEW),
}  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """A table of each group of rows that grow by the same sizes."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.grows, row.on, tuple(row.medians)), []).append(row)
    for (grows, on, sizes), group in groups.items():
        columns = [f"{grows}, {on}", *(f"{n:,}" for n in sizes), "unit", "exponent"]
        cells = [
            (row.what, *(f"{cost:.3g}" for cost in row.medians.values()),
             f"{row.unit} ({row.kind})", f"{row.exponent:.2f}")
            for row in group
        ]  # fmt: skip
        rich_table("Medians; exponents of the last two decades", columns, cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how cost grows.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="scale", action="store_const", const="quick")
    size.add_argument("--full", dest="scale", action="store_const", const="full",
                      help="the largest sizes: hours, and 30 GB of disk")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--folder", type=Path, default=Path("var/growth"))
    parser.set_defaults(scale="default")
    options = parser.parse_args()
    began, scale = time.monotonic(), SCALES[options.scale]
    rows: list[Row] = []
    for name in options.only:
        rows += MEASURES[name](scale, options.folder)
    show(rows)
    figures = worst(rows)
    for row in sorted(rows, key=lambda row: -row.exponent)[:8]:
        say(f"  {row.exponent:5.2f}  {row.grows}, {row.on}: {row.what} ({row.kind})")
    say(json.dumps({**figures, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
