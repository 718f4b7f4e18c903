"""Runs side by side, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.table import Table

from autoscaling.simulator.figures import QUANTILES, Figures, TierFigures

Value = Callable[[Figures], str]


def table(runs: Sequence[Figures]) -> Table:
    """A column for each run, the first one is what was asked about."""
    shown = Table("", *(run.name for run in runs), box=None, pad_edge=False, highlight=False)
    for column in shown.columns:
        column.no_wrap = True
    for column in shown.columns[1:]:
        column.justify = "right"
    for tier in runs[0].tiers:
        shown.add_row(f"[bold]{tier}[/bold]")
        for name, value in _TIER_ROWS:
            _add(shown, runs, name, lambda run, t=tier, v=value: v(run.tiers[t]))  # type: ignore[misc]
    shown.add_row("[bold]whole lane[/bold]")
    for name, of_run in _ROWS:
        _add(shown, runs, name, of_run)
    return shown


def _add(shown: Table, runs: Sequence[Figures], name: str, value: Value) -> None:
    cells = [value(run) for run in runs]
    if any(cells):
        shown.add_row(f"  {name}", *cells)


def _at(values: tuple[float, ...], place: int) -> str:
    return f"{values[place]:,.{0 if values[place] >= 100 else 1}f}" if values else "-"


def _refused(tier: TierFigures) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in tier.refused.items())


def _over_optimum(run: Figures) -> str:
    return "" if run.over_optimum is None else f"{run.over_optimum:.2f}"


_TIER_ROWS: tuple[tuple[str, Callable[[TierFigures], str]], ...] = (
    ("jobs", lambda tier: f"{tier.jobs:,}"),
    ("wait p50, s", lambda tier: _at(tier.waits, 0)),
    ("wait p95, s", lambda tier: _at(tier.waits, 1)),
    ("wait p99, s", lambda tier: _at(tier.waits, 2)),
    ("done after p95, s", lambda tier: _at(tier.turnarounds, 1)),
    ("refused", _refused),
    ("unfinished", lambda tier: f"{tier.unfinished:,}" if tier.unfinished else ""),
    ("Jain index", lambda tier: "" if tier.jain is None else f"{tier.jain:.3f}"),
)
_ROWS: tuple[tuple[str, Value], ...] = (
    ("simulated hours", lambda run: f"{run.hours:.2f}"),
    ("pictures", lambda run: f"{run.all.pictures:,}"),
    ("wait p95, s", lambda run: _at(run.all.waits, 1)),
    ("GPU-hours", lambda run: f"{run.gpu_hours:,.2f}"),
    ("  drawing", lambda run: f"{run.drawing_gpu_hours:,.2f}"),
    ("  starting", lambda run: f"{run.starting_gpu_hours:,.2f}"),
    ("  idle", lambda run: f"{run.idle_gpu_hours:,.2f}"),
    ("over the optimum", _over_optimum),
    ("GPUs at most", lambda run: f"{run.peak_gpus}"),
    ("direction changes", lambda run: f"{run.direction_changes}"),
    ("replicas lost", lambda run: f"{run.failures}" if run.failures else ""),
    ("failed starts", lambda run: f"{run.failed_starts}" if run.failed_starts else ""),
    ("kWh (estimate)", lambda run: f"{run.kwh:,.2f}"),
)


def as_json(runs: Sequence[Figures]) -> str:
    """All figures; floats as they are, so the same runs give the same bytes."""
    documents = [
        {**asdict(run), "idle_gpu_hours": run.idle_gpu_hours, "over_optimum": run.over_optimum}
        for run in runs
    ]
    return json.dumps({"quantiles": QUANTILES, "runs": documents}, indent=2) + "\n"
