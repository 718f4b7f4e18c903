"""`meltproof usage`: images, GPU-seconds and joules by tenant, model and day, from the ledgers of a
config file."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from rich.table import Table

from jobs.ledger_errors import LedgerError
from jobs.usage import DAY_SECONDS, HOUR_SECONDS, GroupBy, UsageQuery, Used, UsedBy
from serve_app.config.errors import ConfigError
from serve_app.operate.commands.operating import speaker
from serve_app.operate.ledgers import ledgers_of

FIELDS: Mapping[str, GroupBy] = {
    "tenant": "tenant", "model": "model", "size": "size", "source": "source",
}  # fmt: skip
TIMES = {"day": DAY_SECONDS, "hour": HOUR_SECONDS}
AMOUNTS = ("images", "requests", "gpu_seconds", "joules")
USUAL_DAYS = 7
EPILOG = """\
Images are those that were delivered, GPU-seconds those of all images, however they ended. Joules
are empty where no counter measures them. Days and hours are UTC. Kept when jobs are forgotten; not
when their tenant is erased.

exit codes: 0 done; 1 the ledger does not answer; 2 wrong arguments or config"""

Row = dict[str, str | int | float | None]


def main(arguments: Sequence[str]) -> int:
    """Add up and print; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        query = _query(options)
        with ledgers_of(options.config) as ledgers:
            found = [one for ledger in ledgers for one in ledger.usage(query)]
    except (ConfigError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except LedgerError as error:
        speaker(stderr=True).print(str(error))
        return 1
    rows = _rows(found, options.by)
    if options.format == "json":
        sys.stdout.write(json.dumps({"usage": rows}, indent=2) + "\n")
    elif options.format == "csv":
        sys.stdout.write(_csv(rows, options.by))
    else:
        speaker().print(_table(rows, options.by) if rows else "nothing was used")
    return 0


def _query(options: argparse.Namespace) -> UsageQuery:
    if options.end <= options.start:
        raise ConfigError("--to: must be after --from")
    bucket = next((TIMES[name] for name in ("hour", "day") if name in options.by), None)
    return UsageQuery(
        start=options.start.timestamp(),
        end=options.end.timestamp(),
        by=frozenset(FIELDS[name] for name in options.by if name in FIELDS),
        only={"tenant": options.tenant} if options.tenant else {},
        bucket_seconds=bucket,
        limit=10_000_000,
    )


def _rows(found: Sequence[UsedBy], by: Sequence[str]) -> list[Row]:
    """Of all ledgers together, as they came: by time, then by what was used."""
    sums: dict[tuple[str | None, ...], Used] = {}
    for one in found:
        key = tuple(_column(one, name) for name in by)
        sums[key] = sums.get(key, Used()) + one.used
    rows: list[Row] = []
    for key, used in sums.items():
        amounts = {**asdict(used), "gpu_seconds": round(used.gpu_seconds, 3)}
        amounts["joules"] = round(used.joules, 1) if used.joules else None
        rows.append({**dict(zip(by, key, strict=True)), **amounts})
    return rows


def _column(one: UsedBy, name: str) -> str | None:
    if name in FIELDS:
        value: str | None = getattr(one, FIELDS[name])
        return value
    at = datetime.fromtimestamp(one.start or 0, UTC)
    return f"{at:%Y-%m-%d}" if name == "day" else f"{at:%Y-%m-%dT%H:00Z}"


def _csv(rows: Sequence[Row], by: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [*by, *AMOUNTS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _harmless(value: str | int | float | None) -> str | int | float | None:
    """A spreadsheet takes a text that begins like this for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _table(rows: Sequence[Row], by: Sequence[str]) -> Table:
    table = Table(*by, box=None, pad_edge=False)
    for title in ("images", "requests", "GPU-seconds", "joules"):
        table.add_column(title, justify="right")
    for row in rows:
        names = ("".join(filter(str.isprintable, str(row[name]))) for name in by)
        joules = "" if row["joules"] is None else f"{row['joules']:,.0f}"
        amounts = (f"{row['images']:,}", f"{row['requests']:,}", f"{row['gpu_seconds']:,.1f}")
        table.add_row(*names, *amounts, joules)
    return table


def a_moment(text: str) -> datetime:
    """An argument's type: `2025-03-26`, or `2025-03-26T14:00`, both in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a day like 2025-03-26, or an hour like 2025-03-26T14:00, not {text!r}"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
        raise argparse.ArgumentTypeError("must be at a full hour: usage is kept by the hour")
    return moment


def columns(text: str) -> list[str]:
    """An argument's type: `tenant,model,day`, in this order."""
    names = text.split(",")
    known = [*FIELDS, *TIMES]
    for name in names:
        if name not in known or names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"{name!r}: each of {', '.join(known)} once")
    if set(TIMES) <= set(names):
        raise argparse.ArgumentTypeError("day or hour, not both")
    return names


def _parser() -> argparse.ArgumentParser:
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow += timedelta(days=1)
    parser = argparse.ArgumentParser(
        prog="meltproof usage",
        description="Add up what was used, the most GPU-seconds first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=a_moment,
        default=tomorrow - timedelta(days=USUAL_DAYS),
        metavar="DAY",
        help=f"the first day, in UTC (default: {USUAL_DAYS} days up to today)",
    )
    parser.add_argument(
        "--to", dest="end", type=a_moment, default=tomorrow, metavar="DAY",
        help="the day after the last one (default: tomorrow)",
    )  # fmt: skip
    parser.add_argument(
        "--by",
        type=columns,
        default=["tenant", "model", "day"],
        metavar="COLUMNS",
        help="of tenant, model, size, source, and day or hour (default tenant,model,day)",
    )
    parser.add_argument("--tenant", action="append", help="only that one's; may be repeated")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledgers (default configs/laptop.yaml)",
    )
    return parser
