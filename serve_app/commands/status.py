"""`meltproof status`: whether the service answers, what it draws with, what it did last."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve_app.commands.api import Body, Service, ServiceError, add_service_arguments

RECENT = 10
STYLES = {"succeeded": "green", "failed": "red", "blocked": "red", "running": "yellow"}


def main(arguments: Sequence[str]) -> int:
    """Ask and report; the exit code is 0 when the service is ready."""
    parser = argparse.ArgumentParser(
        prog="meltproof status",
        description="Say whether the service is up, what it draws with and what it did last.",
        epilog="exit codes: 0 ready; 1 the service refused or is not ready; 3 nothing answers",
    )
    add_service_arguments(parser)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        with Service(options.base_url, options.key) as service:
            service.get("/readyz")
            models = service.get("/v1/models")["data"]
            jobs = service.get(f"/v1/jobs?limit={RECENT}")["data"]
    except ServiceError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    console.print(f"[green]ready[/green] at {service.base_url}")
    console.print("draws with " + ", ".join(model["id"] for model in models))
    console.print(_table(jobs) if jobs else "no jobs yet")
    return 0


def _table(jobs: list[Body]) -> Table:
    table = Table("job", "state", "passes", "seconds", "prompt", box=None, pad_edge=False)
    for job in jobs:
        table.add_row(
            job["id"],
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
