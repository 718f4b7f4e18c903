"""`meltproof review`: verdicts of the safety screens that a person should see, and what is made of
them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.table import Table

from jobs.admin_calls import audited
from jobs.blobs.erasing import delete_withdrawn
from jobs.blobs.opening import open_store
from jobs.blobs.store import BlobStore
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from jobs.verdicts import LoggedVerdict, ReviewDecision
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import a_number, speaker, this_user

LAST = 20
MOST = 1_000_000
TITLES = ("number", "at", "tenant", "image", "stage", "categories", "policy", "review")
EPILOG = """\
A flagged picture was delivered. `allow` takes it off the list; `uphold` takes it back as well (its
URL answers 410) and counts it as a strike of its tenant. A blocked order counts as one until it is
allowed.

exit codes: 0 done; 1 the ledger or the store does not answer; 2 wrong arguments or config, or no
such verdict"""


def main(arguments: Sequence[str]) -> int:
    """List, or review; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "list":
            _list(options)
        elif options.what == "show":
            _show(options.config, options.job)
        else:
            _review(options.config, ReviewDecision(options.what), options.numbers)
    except (ConfigError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except (LedgerError, OSError) as error:
        speaker(stderr=True).print(str(error))
        return 1
    return 0


@contextmanager
def _ledgers(path: str) -> Iterator[dict[str, tuple[SqlLedger, BlobStore]]]:
    """Of the file, each with its store, by DSN."""
    file = parse_serve_config(load_serve_config(path), path)
    places = {one.args.ledger.dsn: one.args.blobs.place() for one in file.applications}
    opened: dict[str, tuple[SqlLedger, BlobStore]] = {}
    try:
        for dsn, place in places.items():
            opened[dsn] = SqlLedger(dsn), open_store(place)
        yield opened
    finally:
        for ledger, _ in opened.values():
            ledger.close()


def _list(options: argparse.Namespace) -> None:
    action = "block" if options.blocked else "flag"
    with _ledgers(options.config) as opened:
        for ledger, _ in opened.values():
            found = ledger.verdicts(action, int(options.last), reviewed=options.reviewed)
            if found:
                speaker().print(_table(found))
            else:
                speaker().print(f"nothing with action {action} is to be reviewed")


def _show(path: str, job_id: str) -> None:
    """Every verdict on that order, oldest first. ConfigError when there is none."""
    with _ledgers(path) as opened:
        found = [one for ledger, _ in opened.values() for one in ledger.verdicts_of(job_id)]
    if not found:
        raise ConfigError(f"{job_id}: no verdict is kept of such a job")
    titles = ("number", "image", "stage", "pass", "action", "scores", "sha256", "policy", "review")
    table = Table(*titles, box=None, pad_edge=False)
    for one in found:
        note = one.note
        scores = ", ".join(f"{name} {score:.2f}" for name, score in note.scores)
        image, pass_no = ("" if n is None else str(n) for n in (note.index, note.pass_no))
        cells = (str(one.seq), image, note.stage, pass_no, note.action, scores, note.sha256)
        _add(table, (*cells, note.policy, one.decision or ""))
    speaker().print(table)


def _add(table: Table, cells: Sequence[str]) -> None:
    """Without what a terminal would obey: words and names come from clients."""
    table.add_row(*("".join(filter(str.isprintable, cell)) for cell in cells))


def _table(verdicts: Sequence[LoggedVerdict]) -> Table:
    worded = any(one.note.words is not None for one in verdicts)
    table = Table(*TITLES, *("words",) * worded, box=None, pad_edge=False)
    for one in verdicts:
        note, scores = one.note, dict(one.note.scores)
        found = (
            f"{name} {scores[name]:.2f}" if name in scores else name for name in note.categories
        )
        image = note.job_id if note.index is None else f"{note.job_id}/{note.index}"
        at = f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M:%S}Z"
        row = (str(one.seq), at, note.tenant, image, note.stage, ", ".join(found), note.policy)
        _add(table, (*row, one.decision or "", *(note.words or "",) * worded))
    return table


def _review(path: str, decision: ReviewDecision, numbers: Sequence[int]) -> None:
    with _ledgers(path) as opened:
        if len(opened) > 1:
            raise ConfigError(f"{path}: has several ledgers, and numbers are of one: name a file")
        for ledger, blobs in opened.values():
            for number in numbers:
                speaker().print(_reviewed(ledger, blobs, number, decision))


def _reviewed(ledger: SqlLedger, blobs: BlobStore, number: int, decision: ReviewDecision) -> str:
    with audited(ledger, this_user(), f"review {decision}", str(number)):
        reviewed = ledger.review(number, decision)
        if reviewed is None:
            known = "`meltproof review list` shows their numbers"
            raise ConfigError(f"{number}: no such verdict; {known}")
        deleted = delete_withdrawn(blobs, reviewed)
    note = reviewed.verdict.note
    taken = f"; files taken back: {deleted}" if deleted else ""
    return f"{number}: {decision} ({note.action} of {note.job_id}, tenant {note.tenant}){taken}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof review",
        description="Look at what the safety screens flagged or blocked, and say what is right.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="what is to be reviewed, newest first")
    listing.add_argument("--blocked", action="store_true", help="blocked, in place of flagged ones")
    listing.add_argument("--reviewed", action="store_true", help="those that were reviewed, too")
    listing.add_argument(
        "--last", type=a_number(1, MOST), default=LAST, metavar="N", help=f"default {LAST}"
    )
    _add_config(listing)
    showing = commands.add_parser("show", help="every verdict on one order, with its scores")
    showing.add_argument("job", metavar="JOB")
    _add_config(showing)
    for decision, what in (("allow", "nothing is wrong"), ("uphold", "the screens are right")):
        command = commands.add_parser(decision, help=what)
        command.add_argument("numbers", nargs="+", type=int, metavar="NUMBER")
        _add_config(command)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledgers and stores (default configs/laptop.yaml)",
    )
