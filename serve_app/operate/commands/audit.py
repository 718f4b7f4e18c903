"""`meltproof audit`: what operators changed, over HTTP and by commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

from rich.table import Table

from jobs.admin_calls import AdminCall
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import a_number, speaker

LAST = 50
MOST = 1_000_000
EPILOG = """\
Each call is written down before it changes anything, and again with its outcome; one that is still
`begun` was interrupted. Nothing deletes these entries. Commands are named user@host, as their
system names them; calls over HTTP by the id of their key or token.

exit codes: 0 done; 1 the ledger does not answer; 2 wrong arguments or config"""


def main(arguments: Sequence[str]) -> int:
    """List; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        file = parse_serve_config(load_serve_config(options.config), options.config)
        for dsn in dict.fromkeys(one.args.ledger.dsn for one in file.applications):
            with closing(SqlLedger(dsn)) as ledger:
                found = ledger.admin_calls(int(options.last), options.operator)
            speaker().print(_table(found) if found else "no operator has changed anything")
    except (ConfigError, LedgerError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 1 if isinstance(error, LedgerError) else 2
    return 0


def _table(calls: Sequence[AdminCall]) -> Table:
    table = Table("at", "operator", "action", "target", "outcome", box=None, pad_edge=False)
    for call in calls:
        at = f"{datetime.fromtimestamp(call.at, UTC):%Y-%m-%d %H:%M:%S}Z"
        cells = (at, call.operator, call.action, call.target, call.outcome)
        table.add_row(*("".join(filter(str.isprintable, cell)) for cell in cells))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof audit",
        description="List what operators changed, newest first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledgers (default configs/laptop.yaml)",
    )
    parser.add_argument("--operator", metavar="ID", help="only that one's")
    parser.add_argument(
        "--last", type=a_number(1, MOST), default=LAST, metavar="N", help=f"default {LAST}"
    )
    return parser
