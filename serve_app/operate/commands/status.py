"""`meltproof status`: whether the service answers, how much waits, what it did last."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve_app.operate.commands.api import Body, Service, ServiceError, add_service_arguments
from serve_app.operate.http_proxies import without_password

RECENT = 10
STEADY = 0.05  # seconds a second
STYLES = {"succeeded": "green", "failed": "red", "blocked": "red", "running": "yellow"}


def main(arguments: Sequence[str]) -> int:
    """Ask and report; the exit code is 0 when the service is ready."""
    parser = argparse.ArgumentParser(
        prog="meltproof status",
        description="Say whether the service is up, how much waits for it and what it did last.",
        epilog="exit codes: 0 ready; 1 the service refused or is not ready; 3 nothing answers",
    )
    add_service_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        with Service(options.base_url, options.key) as service:
            _report(service, Console(highlight=False))
    except ServiceError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def _report(service: Service, console: Console) -> None:
    service.get("/readyz")
    models = service.get("/v1/models")["data"]
    statuses = [service.get(f"/v1/status?model={quote(model['id'])}") for model in models]
    jobs = service.get(f"/v1/jobs?limit={RECENT}")["data"]
    console.print(f"[green]ready[/green] at {without_password(service.base_url)}")
    console.print("draws with " + ", ".join(map(_model, models)) if models else "has no model yet")
    for model, status in zip(models, statuses, strict=True):
        if len(models) > 1:
            console.print(f"\n[bold]{model['id']}[/bold]")
        for line in _heat(status):
            console.print(line)
        console.print(_tiers(status["waiting"]) if status["waiting"] else "nothing waits")
    console.print()
    console.print(_table(jobs, with_model=len(models) > 1) if jobs else "no jobs yet")


def _model(model: Body) -> str:
    if not model.get("available", True):
        return f"{model['id']} (no decoder is there: its jobs wait)"
    if (start_seconds := model.get("start_seconds")) is not None:
        return f"{model['id']} (starts with its first job, in about {_duration(start_seconds)})"
    return str(model["id"])


def _heat(status: Body) -> list[str]:
    """The lane in two lines. A trend too small to matter is none."""
    drain, rate, trend = status["drain_seconds"], status["render_rate"], status["trend"]
    drains = "nothing to draw"
    if drain is None:
        drains = "too little was drawn to say how long the work lasts"
    elif drain > 0:
        drains = f"all that waits and runs is drawn in {_duration(drain)}"
    if drain and abs(trend or 0.0) >= STEADY:
        drains += f", {'growing' if trend > 0 else 'shrinking'} by {abs(trend):.1f} s a second"
    drawn = "unknown" if rate is None else f"{rate:.1f}"
    return [
        f"lane {status['lane']}: {drains}",
        f"GPU-seconds a second: {status['arrival_rate']:.1f} come in, {drawn} drawn while busy",
    ]


def _tiers(waiting: Body) -> Table:
    table = Table("tier", box=None, pad_edge=False)
    for title in ("waiting", "at their limit", "GPU-seconds", "oldest"):
        table.add_column(title, justify="right")
    for name, tier in waiting.items():
        table.add_row(
            Text(name),
            f"{tier['jobs']:,}",
            f"{tier['parked_jobs']:,}",
            f"{tier['gpu_seconds']:,.1f}",
            _duration(tier["oldest_seconds"]),
        )
    return table


def _duration(seconds: float) -> str:
    """As a person says it: 0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _table(jobs: list[Body], *, with_model: bool) -> Table:
    model = ["model"] if with_model else []
    table = Table("job", *model, "state", "passes", "seconds", "prompt", box=None, pad_edge=False)
    for job in jobs:
        table.add_row(
            job["id"],
            *(job[name] for name in model),
            Text(_state(job), style=STYLES.get(job["state"], "")),
            f"{job['passes_done']}/{job['passes_total']}",
            _seconds(job),
            Text(job["prompt"], overflow="ellipsis", no_wrap=True),
        )
    return table


def _state(job: Body) -> str:
    ahead = job["queue_position"]
    return f"queued, {ahead} ahead" if job["state"] == "queued" and ahead else str(job["state"])


def _seconds(job: Body) -> str:
    """From being accepted to being finished, in whole seconds."""
    ended = job["finished_at"]
    return "" if ended is None else str(ended - job["created_at"])
