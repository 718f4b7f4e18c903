"""Runs side by side as one picture: GPUs against demand, waits, queue. The only home of Matplotlib.

Colours are those of Okabe and Ito, which colour-blind readers tell apart, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from autoscaling.simulator.simulation import SimulationResult

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
TIER_STYLES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"))
BINS = 288
LEAST_WAIT = 0.1
LABELS = ("GPUs", "p95 wait, seconds", "queue, GPU-minutes")


def save_plot(path: Path, runs: Sequence[tuple[str, SimulationResult]], title: str) -> None:
    """A PNG with a column for each run."""
    figure = Figure(figsize=(2.0 + 5.5 * len(runs), 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(runs), sharex=True, sharey="row", squeeze=False)
    longest = max(outcome.ended_at for _, outcome in runs)
    scale, unit = (3600.0, "hours") if longest > 7200 else (60.0, "minutes")
    for column, (name, outcome) in enumerate(runs):
        replicas, waits, queue = axes[:, column]
        replicas.set_title(name, pad=24, fontweight="bold")
        _replicas(replicas, outcome, scale)
        _waits(waits, outcome, scale)
        _queue(queue, outcome, scale)
        queue.set_xlabel(unit)
    for axis, label in zip(axes[:, 0], LABELS, strict=True):
        axis.set_ylabel(label)
    for axis in (axes[0, 0], axes[2, 0]):  # shared, so only once everything is drawn
        axis.set_ylim(bottom=0)
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _edges(outcome: SimulationResult) -> NDArray[np.float64]:
    return np.linspace(0.0, max(outcome.ended_at, 1.0), BINS + 1)


def _replicas(axis: Axes, outcome: SimulationResult, scale: float) -> None:
    """Means, so that equal areas are equal GPU-hours."""
    edges, samples = _edges(outcome), outcome.samples
    at = [sample.at for sample in samples]
    paid = _mean(at, [s.starting + s.drawing + s.draining for s in samples], edges)
    ready = _mean(at, [s.drawing for s in samples], edges)
    work = [job.all_passes * outcome.lane.row_seconds for job in outcome.jobs if not job.refused]
    came = [job.arrival.at for job in outcome.jobs if not job.refused]
    demand = np.histogram(came, edges, weights=work)[0] / np.diff(edges)
    left = edges[:-1] / scale
    axis.fill_between(
        left, demand, step="post", color=GREY, alpha=0.45, lw=0, label="work that comes"
    )
    axis.step(left, paid, where="post", color=ORANGE, lw=1.4, label="paid for")
    axis.step(left, ready, where="post", color=BLUE, lw=1.4, label="taking work")
    _legend(axis)


def _waits(axis: Axes, outcome: SimulationResult, scale: float) -> None:
    """By the time of arrival."""
    edges = _edges(outcome)
    tiers = sorted({job.arrival.tier for job in outcome.jobs})
    for tier, (colour, style) in zip(tiers, cycle(TIER_STYLES), strict=False):
        known = [
            (job.arrival.at, job.wait_seconds)
            for job in outcome.jobs
            if job.arrival.tier == tier and job.wait_seconds is not None
        ]
        bins = np.digitize([at for at, _ in known], edges) - 1
        waits = np.array([wait for _, wait in known])
        present = sorted(set(bins.tolist()))
        p95 = [max(LEAST_WAIT, float(np.quantile(waits[bins == b], 0.95))) for b in present]
        axis.plot(edges[present] / scale, p95, color=colour, ls=style, lw=1.4, label=tier)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: "")
    _legend(axis)


def _legend(axis: Axes) -> None:
    """Above the curves, in one line."""
    lines, names = axis.get_legend_handles_labels()
    if lines:
        axis.legend(lines, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names),
                    frameon=False, borderaxespad=0.1)  # fmt: skip


def _queue(axis: Axes, outcome: SimulationResult, scale: float) -> None:
    edges, samples = _edges(outcome), outcome.samples
    at = [sample.at for sample in samples]
    waiting = _mean(at, [sample.waiting_seconds / 60 for sample in samples], edges)
    axis.fill_between(edges[:-1] / scale, waiting, step="post", color=PURPLE, alpha=0.6, lw=0)


def _mean(
    at: Sequence[float], values: Sequence[float], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """In each bin; 0 in an empty one."""
    found = np.histogram(at, edges)[0]
    return np.asarray(np.histogram(at, edges, weights=values)[0] / np.maximum(found, 1))
