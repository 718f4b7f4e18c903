"""What `meltproof status --watch` shows of a lane: from the answers for operators to tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serve_app.operate.commands.api import Body

HOT_SECONDS = 60.0
"""A drain time from which work piles up for longer than a client likes to wait."""


def view(overview: Body, running: Body, waiting: Body, failed: Body, read_at: float) -> Group:
    """One look. running, waiting, failed: pages of jobs, those that matter most first."""
    models: Sequence[Body] = overview["models"]
    head = Text.assemble(
        (f"lane {overview['lane']}", "bold"),
        f"   {datetime.fromtimestamp(read_at, UTC):%H:%M:%S}Z",
        "" if models else "   no model yet",
    )
    parts: list[RenderableType] = [head]
    if models:
        parts += [Text(), _models(models), Text(), _tiers(models)]
    if overview["nodes"]:
        parts += [Text(), _nodes(overview["nodes"])]
    parts += [Text(), *_jobs(running, waiting, failed, read_at)]
    return Group(*parts)


def _models(models: Iterable[Body]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for title in ("drained in", "GPU-s/s in", "out", "waiting", "running GPU-s", "decoders"):
        table.add_column(title, justify="right")
    table.add_column("limits")
    for model in models:
        heat, decoders, limits = model["heat"], model["decoders"], model["limits"]
        waiting = sum(tier["jobs"] for tier in heat["waiting"].values())
        table.add_row(
            Text(model["name"], style="" if model["available"] else "red"),
            _drain(heat),
            f"{heat['arrival_rate']:.1f}" if heat["arrival_rate"] is not None else "?",
            f"{heat['render_rate']:.1f}" if heat["render_rate"] is not None else "?",
            f"{waiting:,}",
            f"{heat['running_gpu_seconds']:,.1f}",
            _decoders(decoders),
            Text(_level(limits), style="yellow" if limits["level"] else ""),
        )
    return table


def _drain(heat: Body) -> Text:
    seconds, trend = heat["drain_seconds"], heat["trend"]
    if seconds is None:
        return Text("?")
    arrow = " " if not trend or abs(trend) < 0.05 else "↑" if trend > 0 else "↓"
    return Text(f"{duration(seconds)} {arrow}", style="red" if seconds >= HOT_SECONDS else "green")


def _decoders(decoders: Body) -> str:
    """Replicas and their slots, and replicas that start."""
    running, starting, slots = (decoders[name] for name in ("running", "starting", "slots"))
    if running is None:
        return "?"
    each = f" x {slots}" if slots else ""
    return f"{running}{each}{f' +{starting}' if starting else ''}"


def _level(limits: Body) -> str:
    return f"level {limits['level']}: {limits['reason']}" if limits["level"] else "as usual"


def _tiers(models: Sequence[Body]) -> Table:
    named = ["model"] if len(models) > 1 else []
    table = Table(*named, "tier", box=None, pad_edge=False)
    for title in ("weight", "waiting", "at their limit", "GPU-s", "oldest"):
        table.add_column(title, justify="right")
    table.add_column("limited to")
    for model in models:
        waiting, tiers = model["heat"]["waiting"], model["limits"]["tiers"]
        for name in sorted({*waiting, *tiers}):
            tier, promised = waiting.get(name), tiers.get(name)
            counts = ("0", "0", "0.0", "") if tier is None else _counts(tier)
            weight = "" if promised is None else f"{promised['weight']:g}"
            now = _now(promised) if promised else ""
            own = [model["name"]] if named else []
            table.add_row(*own, name, weight, *counts, Text(now, style="yellow"))
    return table


def _counts(tier: Body) -> tuple[str, str, str, str]:
    oldest = duration(tier["oldest_seconds"])
    return f"{tier['jobs']:,}", f"{tier['parked_jobs']:,}", f"{tier['gpu_seconds']:,.1f}", oldest


def _now(promised: Body) -> str:
    """What is tighter than usual."""
    now, usual = promised["now"], promised["usual"]
    if now is None:
        return ""
    tighter = {name: value for name, value in now.items() if value != usual[name]}
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in tighter.items())


def _nodes(nodes: Iterable[Body]) -> Table:
    table = Table("node", "address", box=None, pad_edge=False)
    for title in ("CPUs", "GPUs"):
        table.add_column(title, justify="right")
    table.add_column("replicas")
    for node in nodes:
        replicas = (f"{name} {count}" for name, count in sorted(node["replicas"].items()))
        name = f"{node['id'][:8]}{' (head)' if node['head'] else ''}"
        table.add_row(
            Text(name if node["alive"] else f"{name} (gone)", style="" if node["alive"] else "red"),
            node["address"],
            f"{node['num_cpus']:g}",
            f"{node['num_gpus']:g}",
            ", ".join(replicas),
        )
    return table


def _jobs(running: Body, waiting: Body, failed: Body, now: float) -> list[RenderableType]:
    table = Table("", box=None, pad_edge=False)
    table.add_column("job", no_wrap=True, min_width=32)
    table.add_column("tenant", overflow="fold")
    for title in ("passes", "for"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("where, or why", no_wrap=True)
    for title, page in (("running", running), ("waiting", waiting), ("failed", failed)):
        for number, job in enumerate(page["data"]):
            table.add_row(*_job(job, title if number == 0 else "", now))
    return [table] if table.row_count else [Text("no jobs run, wait or failed lately")]


def _job(job: Body, title: str, now: float) -> list[RenderableType]:
    reasons = [image["error"] for image in job["images"] if image["error"]]
    why = job["worker"] or next(iter(reasons), "") or "".join(job["errors"][-1:])
    began = job["finished_at"] or job["started_at"] or job["created_at"]
    since = f"{duration(max(0.0, now - began))}{' ago' if job['finished_at'] else ''}"
    ended = job["finished_at"] is not None
    return [
        Text(title, style="red" if ended else "bold"),
        job["id"],
        printable(job["tenant"]),
        f"{job['passes_done']}/{job['passes_total']}",
        since,
        printable(why),
    ]


def printable(text: str) -> str:
    """Without what a terminal would obey: names and reasons come from elsewhere."""
    return "".join(filter(str.isprintable, text))


def duration(seconds: float) -> str:
    """As a person says it: 0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
