"""`meltproof withdraw`: forget a model that is not announced any more."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from jobs.admin_calls import audited
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import speaker, this_user


def main(arguments: Sequence[str]) -> int:
    """Withdraw and report; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        said = _withdraw(options.config, options.model, options.lane)
    except (ConfigError, LedgerError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 1 if isinstance(error, LedgerError) else 2
    for line in said:
        speaker().print(line)
    return 0


def _withdraw(path: str, name: str, lane: str | None) -> list[str]:
    """What became of it in each lane. ConfigError where it is unknown, or is announced."""
    applications = parse_serve_config(load_serve_config(path), path).applications
    places = {(one.args.ledger.dsn, one.args.lane) for one in applications}
    said = []
    for dsn, place in sorted(places):
        if lane not in (None, place):
            continue
        with closing(SqlLedger(dsn)) as ledger:
            found = {one.announcement.name: one for one in ledger.models(place)}
            if name not in found:
                continue
            if found[name].announced:
                raise ConfigError(
                    f"{name} is announced in lane {place}: stop its dispatchers first"
                )
            queued = ledger.depth(found[name].announcement.queue).queued_jobs
            with audited(ledger, this_user(), "withdraw", f"{place}/{name}"):
                ledger.withdraw_model(place, name)
        waiting = f"; {queued:,} of its jobs wait until they expire" if queued else ""
        said.append(f"{name} is withdrawn from lane {place}{waiting}")
    if not said:
        raise ConfigError(f"{path}: no lane has a model {name!r}")
    return said


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof withdraw",
        description="Forget a model whose dispatchers are gone: gateways list it no more, and "
        "answer orders for it with 404. It is listed again when it is announced again.",
        epilog="exit codes: 0 done; 1 the ledger does not answer; 2 wrong arguments or config, or "
        "the model is unknown or still announced",
    )
    parser.add_argument("config", metavar="CONFIG", help="a config file: whose lanes and ledgers")
    parser.add_argument("model", metavar="MODEL", help="its name")
    parser.add_argument("--lane", help="only in that lane")
    return parser
