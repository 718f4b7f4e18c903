"""`meltproof status`: whether the service answers, how much waits, what it did last."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from time import sleep, time
from urllib.parse import quote

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from serve_app.operate.commands.api import Body, Service, ServiceError, add_service_arguments
from serve_app.operate.http_proxies import without_password
from serve_app.operate.status_view import duration, view

RECENT = 10
SLOW = 5
LATELY_SECONDS = 3_600.0
_NEVER_WRAPPED = 10_000  # characters, in a pipe
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
    parser.add_argument(
        "--watch", action="store_true", help="go on looking; with an operator's key at all of it"
    )
    parser.add_argument("--every", type=_pause, default=2.0, metavar="SECONDS", help="default 2")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        with Service(options.base_url, options.key) as service:
            if options.watch:
                watch(service, console, options.every)
            else:
                console.print(_report(service))
    except ServiceError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def _pause(text: str) -> float:
    """An argument's type: seconds between two looks."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number from 0.2 to 3600, not {text!r}")
    return seconds


def watch(
    service: Service, console: Console, every_seconds: float, sleep: Callable[[float], None] = sleep
) -> None:
    """Until it is interrupted. A terminal is refreshed; elsewhere one look follows the other. A
    service that does not answer is asked again. Raises ServiceError when it is none at first."""
    look = _look(service)
    if not console.is_terminal:
        console.width = _NEVER_WRAPPED
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext(), suppress(KeyboardInterrupt):
        while True:
            if live is None:
                console.print(look)
            else:
                live.update(look, refresh=True)
            sleep(every_seconds)
            try:
                look = _look(service)
            except ServiceError as error:
                look = Text(f"{error}\nasked again in {every_seconds:g} s", style="red")


def _look(service: Service) -> RenderableType:
    """All there is for an operator; for others what `status` says."""
    try:
        overview = service.get("/v1/operator/overview")
    except ServiceError as error:
        if error.code != "operator_required":
            raise
        return _report(service)
    jobs = "/v1/operator/jobs?limit"
    now = time()
    return view(
        overview,
        service.get(f"{jobs}={SLOW}&slow=running"),
        service.get(f"{jobs}={SLOW}&slow=waiting"),
        service.get(f"{jobs}={SLOW}&failed_since={max(0.0, now - LATELY_SECONDS):.0f}"),
        now,
    )


def _report(service: Service) -> Group:
    service.get("/readyz")
    models = service.get("/v1/models")["data"]
    statuses = [service.get(f"/v1/status?model={quote(model['id'])}") for model in models]
    jobs = service.get(f"/v1/jobs?limit={RECENT}")["data"]
    said: list[RenderableType] = [
        f"[green]ready[/green] at {without_password(service.base_url)}",
        "draws with " + ", ".join(map(_model, models)) if models else "has no model yet",
    ]
    for model, status in zip(models, statuses, strict=True):
        if len(models) > 1:
            said.append(f"\n[bold]{model['id']}[/bold]")
        said += _heat(status)
        said.append(_tiers(status["waiting"]) if status["waiting"] else "nothing waits")
    said += ["", _table(jobs, with_model=len(models) > 1) if jobs else "no jobs yet"]
    return Group(*said)


def _model(model: Body) -> str:
    if not model.get("available", True):
        return f"{model['id']} (no decoder is there: its jobs wait)"
    if (start_seconds := model.get("start_seconds")) is not None:
        return f"{model['id']} (starts with its first job, in about {duration(start_seconds)})"
    return str(model["id"])


def _heat(status: Body) -> list[str]:
    """The lane in two lines. A trend too small to matter is none."""
    drain, rate, trend = status["drain_seconds"], status["render_rate"], status["trend"]
    drains = "nothing to draw"
    if drain is None:
        drains = "too little was drawn to say how long the work lasts"
    elif drain > 0:
        drains = f"all that waits and runs is drawn in {duration(drain)}"
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
            duration(tier["oldest_seconds"]),
        )
    return table


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
