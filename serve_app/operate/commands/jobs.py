"""`meltproof jobs`: what waits, runs and failed, of all tenants; cancel a job, or requeue one.

Works on the ledgers of a config file, while the service runs or not."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from rich.table import Table
from rich.text import Text

from jobs.admin_calls import audited
from jobs.job import IllegalTransition, JobState
from jobs.ledger_errors import LedgerError
from jobs.operating import ALLOWED, FoundJob, JobAction, JobFilter, JobPlace
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError
from serve_app.operate.commands.operating import a_number, speaker, this_user
from serve_app.operate.ledgers import ledgers_of, queue_of
from serve_app.operate.status_view import duration, printable
from serve_app.wire.errors import ApiError
from serve_app.wire.operator_jobs import (
    OperatorJobBody,
    OperatorJobLifeBody,
    job_body,
    job_filter,
    life_body,
)

PAGE = 100
MOST = 100_000
STYLES = {"succeeded": "green", "failed": "red", "expired": "red", "blocked": "red",
          "running": "yellow"}  # fmt: skip
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
EPILOG = """\
Prompts are not shown. `cancel` is for jobs that have not ended, `requeue` for those that failed or
expired: they wait again at their place by their order of arrival, and their images count against
today's quota. Both are logged (meltproof audit).

exit codes: 0 done; 1 the ledger does not answer; 2 wrong arguments or config, no such job, or its
state does not allow it"""


def main(arguments: Sequence[str]) -> int:
    """List, show, cancel or requeue; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with ledgers_of(options.config) as ledgers:
            options.run(ledgers, options)
    except (ConfigError, IllegalTransition, ValueError, ApiError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except LedgerError as error:
        speaker(stderr=True).print(str(error))
        return 1
    return 0


def _list(ledgers: Sequence[SqlLedger], options: argparse.Namespace) -> None:
    asked = {
        name: value
        for name in ("state", "tenant", "queue", "slow", "model")
        if (value := getattr(options, name)) is not None
    }
    if options.failed_since is not None:
        asked["failed_since"] = f"{time.time() - options.failed_since:.3f}"
    wanted = job_filter(asked, partial(queue_of, options.config))
    found = [one for ledger in ledgers for one in _found(ledger, wanted, int(options.limit))]
    bodies = [job_body(one) for one in found]
    if options.json:
        _print_json({"jobs": bodies})
    elif bodies:
        speaker().print(_table(bodies, time.time()))
    else:
        speaker().print("no such jobs")


def _found(ledger: SqlLedger, wanted: JobFilter, limit: int) -> list[FoundJob]:
    """Page by page: a page looks at a bounded number of jobs, and few may be as wanted."""
    found: list[FoundJob] = []
    place: JobPlace | None = None
    while len(found) < limit:
        page = ledger.find_jobs(wanted, min(PAGE, limit - len(found)), place)
        found += page.found
        if (place := page.next) is None:
            break
    return found


def _show(ledgers: Sequence[SqlLedger], options: argparse.Namespace) -> None:
    _, found = _one(ledgers, options.job)
    body = life_body(found)
    if options.json:
        _print_json(body)
        return
    console = speaker()
    for name, value in _facts(body).items():
        console.print(f"{name:<10} {value}")
    console.print()
    console.print(_life(body))
    for number, reason in enumerate(body["errors"], 1):
        console.print(f"attempt {number}: {printable(reason)}")


def _cancel(ledgers: Sequence[SqlLedger], options: argparse.Namespace) -> None:
    _act(ledgers, options.jobs, JobAction.CANCEL)


def _requeue(ledgers: Sequence[SqlLedger], options: argparse.Namespace) -> None:
    _act(ledgers, options.jobs, JobAction.REQUEUE)


def _act(ledgers: Sequence[SqlLedger], job_ids: Sequence[str], action: JobAction) -> None:
    """One after the other; the first that cannot be done ends it."""
    for job_id in job_ids:
        ledger, found = _one(ledgers, job_id)
        with audited(ledger, this_user(), f"jobs {action}", job_id):
            if found.job.state not in ALLOWED[action]:
                allowed = ", ".join(sorted(ALLOWED[action]))
                raise IllegalTransition(
                    f"{job_id}: is {found.job.state}; {action} needs one of {allowed}"
                )
            do = ledger.cancel if action is JobAction.CANCEL else ledger.requeue
            after = do(job_id)
        state = found.job.state if after is None else after.state
        held = action is JobAction.CANCEL and state is not JobState.CANCELLED
        ends = "; its dispatcher stops it with its next heartbeat" if held else ""
        speaker().print(f"{job_id}: {state}{ends}")


def _one(ledgers: Sequence[SqlLedger], job_id: str) -> tuple[SqlLedger, FoundJob]:
    for ledger in ledgers:
        if (found := ledger.find_job(job_id)) is not None:
            return ledger, found
    raise ConfigError(f"{job_id}: no ledger of the file has such a job")


def _table(jobs: Sequence[OperatorJobBody], now: float) -> Table:
    table = Table("job", "tenant", "tier", "model", "state", box=None, pad_edge=False)
    for title in ("passes", "lasts", "GPU-s", "tries"):
        table.add_column(title, justify="right")
    table.add_column("where, or why")
    for job in jobs:
        state = Text(job["state"], style=STYLES.get(job["state"], ""))
        gpu_seconds = "" if job["gpu_seconds"] is None else f"{job['gpu_seconds']:.2f}"
        table.add_row(
            job["id"],
            *(printable(job[name]) for name in ("tenant", "tier", "model")),
            state,
            f"{job['passes_done']}/{job['passes_total']}",
            duration(max(0.0, (job["finished_at"] or now) - job["created_at"])),
            gpu_seconds,
            str(job["attempts"] or ""),
            printable(_where(job)),
        )
    return table


def _where(job: OperatorJobBody) -> str:
    reasons = [image["error"] for image in job["images"] if image["error"] is not None]
    return job["worker"] or next(iter(reasons), "") or "".join(job["errors"][-1:])


def _facts(job: OperatorJobLifeBody) -> Mapping[str, str]:
    spent = "unknown" if job["gpu_seconds"] is None else f"{job['gpu_seconds']:.3f}"
    joules = "" if job["joules"] is None else f", {job['joules']:.0f} J"
    held = f" by {job['worker']}" if job["worker"] else ""
    images = ", ".join(f"{image['index']} {image['state']}" for image in job["images"])
    facts = {
        "job": job["id"],
        "state": job["state"] + held,
        "tenant": f"{job['tenant']} ({job['tier']})",
        "model": f"{job['model']}, queue {job['queue']}",
        "order": f"{job['n']} of {job['size']}, quality {job['quality']}",
        "images": images,
        "passes": f"{job['passes_done']} of {job['passes_total']}",
        "GPU-s": f"{spent} (predicted {job['predicted_gpu_seconds']:.3f}){joules}",
        "allowed": ", ".join(job["actions"]) or "nothing",
    }
    return {name: printable(value) for name, value in facts.items()}


def _life(job: OperatorJobLifeBody) -> Table:
    table = Table("at", box=None, pad_edge=False)
    table.add_column("after s", justify="right")
    for title in ("image", "what", "where", "passes"):
        table.add_column(title)
    for event in job["timeline"]:
        where = event["replica"] or event["worker"] or event["state"] or ""
        where += f" at {event['node']}" if event["node"] else ""
        passes = "" if event["passes"] is None else str(event["passes"])
        table.add_row(
            f"{datetime.fromtimestamp(event['at'], UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z",
            f"{event['at'] - job['created_at']:.3f}",
            "" if event["image"] is None else str(event["image"]),
            event["event"].replace("_", " "),
            printable(where),
            passes,
        )
    return table


def _print_json(body: object) -> None:
    sys.stdout.write(json.dumps(body, indent=2) + "\n")


def an_age(text: str) -> float:
    """An argument's type: `90s`, `30m`, `2h`, `7d`, in seconds."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be like 30m, 2h or 7d, not {text!r}")
    return float(found[1]) * UNITS[found[2]]


Run = Callable[[Sequence[SqlLedger], argparse.Namespace], None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof jobs",
        description="Look at jobs of all tenants; cancel one, or let one that failed wait again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledgers (default configs/laptop.yaml)",
    )
    said = argparse.ArgumentParser(add_help=False)
    said.add_argument("--json", action="store_true", help="as GET /v1/operator/jobs says it")
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", parents=[common, said], help="jobs, newest first")
    listing.add_argument("--state", metavar="STATE[,STATE]", help="only in one of these states")
    listing.add_argument("--tenant", help="only that one's")
    listing.add_argument("--model", help="only of that model of the file")
    listing.add_argument("--queue", help="only of that queue")
    listing.add_argument(
        "--slow", choices=["running", "waiting"], help="those that run, or wait, longest first"
    )
    listing.add_argument(
        "--failed-since", type=an_age, metavar="AGE", help="failed or expired since so long: 2h"
    )
    listing.add_argument(
        "--limit", type=a_number(1, MOST), default=20, metavar="N", help="default 20"
    )
    listing.set_defaults(run=_list)
    showing = commands.add_parser("show", parents=[common, said], help="one job, and its life")
    showing.add_argument("job", metavar="JOB")
    showing.set_defaults(run=_show)
    actions: tuple[tuple[str, Run, str], ...] = (
        ("cancel", _cancel, "end jobs"),
        ("requeue", _requeue, "let jobs that failed or expired wait again"),
    )
    for name, run, what in actions:
        command = commands.add_parser(name, parents=[common], help=what)
        command.add_argument("jobs", nargs="+", metavar="JOB")
        command.set_defaults(run=run)
    return parser
