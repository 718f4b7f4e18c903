"""`meltproof restore`: a backup, put back into a ledger that was never used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from jobs.admin_calls import audited
from jobs.backup.copying import restore
from jobs.blobs.opening import mark_restored, open_store
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError
from serve_app.operate.commands.backup import parser, place, told
from serve_app.operate.commands.operating import speaker, this_user

EPILOG = """\
Stop every gateway and dispatcher first: one that still writes to the old ledger would write to the
new one with fences that are not its own. The ledger must be new: a file that is not there, or an
empty database. Blobs come first, each compared with its digest, then the tables in one transaction;
a damaged backup, or one of another kind of database, is refused and changes no ledger.

Jobs that waited go on waiting, jobs that were being drawn begin again. Tenants that were erased
since the backup are there again: erase them anew.

exit codes: 0 done; 1 the ledger or the store does not answer; 2 wrong arguments or config, or the
backup is refused"""


def main(arguments: Sequence[str]) -> int:
    """Restore; the exit code."""
    options = parser("restore", "Put a backup back.", EPILOG).parse_args(arguments)
    folder = Path(options.folder)
    try:
        config = place(options.config, options.application)
        dsn, where = config.ledger.dsn, config.blobs.place()
        identity = Path(config.identity_files().directory)
        manifest = restore(folder, dsn, open_store(where), identity)
        with (
            closing(SqlLedger(dsn)) as ledger,
            audited(ledger, this_user(), "restore", str(folder.absolute())),
        ):
            mark_restored(ledger, where)
    except (ConfigError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except (LedgerError, OSError) as error:
        speaker(stderr=True).print(str(error))
        return 1
    speaker().print(f"{folder}: restored {told(manifest)}")
    return 0
