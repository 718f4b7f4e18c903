"""`meltproof limits`: how far heat tightens the lanes of a config file, and every change of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from jobs.ledger_errors import LedgerError
from jobs.limit_levels import LimitChange, LimitLevel
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import a_number, speaker

LAST = 20
MOST = 1_000_000


def main(arguments: Sequence[str]) -> int:
    """Read and report; the exit code."""
    options = _parser().parse_args(arguments)
    console = speaker()
    try:
        document = load_serve_config(options.config)
        for application in parse_serve_config(document, options.config).applications:
            for one in application.models():
                _report(console, one, int(options.last))
    except (ConfigError, LedgerError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 1 if isinstance(error, LedgerError) else 2
    return 0


def _report(console: Console, config: ClusterConfig, last: int) -> None:
    with closing(SqlLedger(config.ledger.dsn)) as ledger:
        level, _ = ledger.limit_level(config.queue)
        changes = ledger.limit_changes(config.queue, last)
    console.print(f"lane {config.queue}: {_standing(level, len(config.temporary_limits))}")
    if changes:
        console.print(_table(changes))


def _standing(level: LimitLevel, thresholds: int) -> str:
    if not thresholds:
        return "no temporary limits are configured"
    if not level.level:
        return f"usual limits ({thresholds} threshold{'s' * (thresholds > 1)})"
    return (
        f"temporary limits, threshold {level.level} of {thresholds}, since {_moment(level.since)}"
    )


def _table(changes: list[LimitChange]) -> Table:
    table = Table("at", "from", "to", "reason", box=None, pad_edge=False)
    for change in changes:
        levels = (str(level) for level in (change.from_level, change.to_level))
        table.add_row(_moment(change.at), *levels, change.reason)
    return table


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof limits",
        description="Say how far heat tightens the limits of each lane, and the latest changes "
        "with their reasons, newest first.",
        epilog="exit codes: 0 done; 1 the ledger does not answer; 2 wrong arguments or config",
    )
    parser.add_argument("config", metavar="CONFIG", help="a config file: whose lanes and ledgers")
    parser.add_argument(
        "--last",
        type=a_number(1, MOST),
        default=LAST,
        metavar="N",
        help=f"changes a lane (default {LAST})",
    )
    return parser
