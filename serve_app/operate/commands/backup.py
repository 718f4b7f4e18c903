"""`meltproof backup`: a ledger and the pictures that it names, copied while the service runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from jobs.admin_calls import audited
from jobs.backup.copying import back_up
from jobs.backup.manifest import Manifest
from jobs.backup.tables import check_exists
from jobs.blobs.opening import open_store
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import speaker, this_user

EPILOG = """\
What was committed before the cut is in the backup, with every final picture and upload. Previews
and large checkpoints are not: renders that were in flight begin again. Neither are the config file,
the files of secrets that it names, and keys of provenance but a local identity: keep those as you
keep secrets. The folder can be read by its owner alone, and holds the pictures of all tenants.

exit codes: 0 done; 1 the ledger or the store does not answer, or the store has lost pictures that
the ledger names (the backup is whole but for these); 2 wrong arguments or config"""


def main(arguments: Sequence[str]) -> int:
    """Back up; the exit code."""
    options = parser("backup", "Copy a ledger and the pictures that it names.", EPILOG).parse_args(
        arguments
    )
    folder = Path(options.folder)
    try:
        config = place(options.config, options.application)
        dsn, identity = config.ledger.dsn, Path(config.identity_files().directory)
        check_exists(dsn)
        with (
            closing(SqlLedger(dsn)) as ledger,
            audited(ledger, this_user(), "backup", str(folder.absolute())),
        ):
            manifest = back_up(dsn, open_store(config.blobs.place()), folder, identity)
    except (ConfigError, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except (LedgerError, OSError) as error:
        speaker(stderr=True).print(str(error))
        return 1
    speaker().print(f"{folder}: {told(manifest)}")
    for key in manifest.lost[:10]:
        speaker(stderr=True).print(f"{key}: the ledger names it, and the store does not have it")
    return 1 if manifest.lost else 0


def told(manifest: Manifest) -> str:
    """What is in it, in a line."""
    cut = f"{datetime.fromtimestamp(manifest.cut_at, UTC):%Y-%m-%d %H:%M:%S}Z"
    lost = f", {len(manifest.lost)} pictures lost before" if manifest.lost else ""
    size = f"{manifest.blobs:,} blobs, {manifest.bytes / 1e6:,.1f} MB"
    return f"the {manifest.database} ledger as of {cut}, {size}{lost}"


def place(path: str, application: str | None) -> ClusterConfig:
    """The config of the one ledger and store that are meant. ConfigError when there are several."""
    found = parse_serve_config(load_serve_config(path), path).applications
    if application is not None:
        found = [one for one in found if one.name == application]
    places = {(one.args.ledger.dsn, one.args.blobs.place()): one.args for one in found}
    if len(places) != 1:
        several = "has several ledgers or stores" if places else f"has no {application!r}"
        raise ConfigError(f"{path}: --application: {several}: name one of its applications")
    return next(iter(places.values()))


def parser(name: str, what: str, epilog: str) -> argparse.ArgumentParser:
    """Of `backup` and `restore`."""
    made = argparse.ArgumentParser(
        prog=f"meltproof {name}",
        description=what,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", metavar="DIR", help="the backup's folder")
    made.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help="whose ledger and store (default configs/laptop.yaml)",
    )
    made.add_argument(
        "--application", metavar="NAME", help="which of the file's, where they have several ledgers"
    )
    return made
