"""`meltproof erase`: everything about one tenant, from every ledger and store of a config file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from jobs.admin_calls import audited
from jobs.blobs.erasing import Erased, erase_tenant
from jobs.blobs.opening import open_store
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import this_user

EPILOG = """\
Works while the service runs or not. At the end an SQLite ledger is rewritten without the deleted
bytes: writers wait meanwhile. Keys that stand in the config file, and signed tokens, go on working:
take those out first.

exit codes: 0 done; 1 the ledger or the store does not answer; 2 wrong arguments or config"""


def main(arguments: Sequence[str]) -> int:
    """Erase one tenant; the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        file = parse_serve_config(load_serve_config(options.config), options.config)
        lanes = [application.args for application in file.applications]
        for line in _erase(lanes, options.tenant):
            console.print(line, markup=False)
    except (ConfigError, ValueError) as error:
        console.print(str(error), markup=False)
        return 2
    except (LedgerError, OSError) as error:
        console.print(f"{error}; what is left is erased when you do it again", markup=False)
        return 1
    return 0


def _erase(lanes: Sequence[ClusterConfig], tenant: str) -> list[str]:
    """What was removed, a line for each ledger. Job ids are unique, so that every store of the file
    may be asked to forget them."""
    stores = [open_store(place) for place in {lane.blobs.place() for lane in lanes}]
    lines = []
    for dsn in dict.fromkeys(lane.ledger.dsn for lane in lanes):
        ledger = SqlLedger(dsn)
        try:
            with audited(ledger, this_user(), "erase", tenant):
                lines.append(_said(tenant, erase_tenant(ledger, stores, tenant)))
        finally:
            ledger.close()
    return lines


def _said(tenant: str, erased: Erased) -> str:
    if erased == Erased():
        return f"{tenant}: no jobs here; keys, quota and queue places, if any, are gone"
    counts = f"{erased.jobs} jobs, {erased.images} images and {erased.files} files"
    return f"{tenant}: {counts} removed, keys and quota too"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof erase",
        description="Delete a tenant: jobs (running ones are cancelled), pictures, keys, quota.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tenant", metavar="TENANT")
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledgers and stores (default configs/laptop.yaml)",
    )
    return parser
