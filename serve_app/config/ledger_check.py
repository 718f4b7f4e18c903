"""Whether the ledger and the bucket of a config file can be used here; said before anything is
started."""

from __future__ import annotations

from jobs.blobs.opening import check_bucket
from jobs.blobs.places import BlobPlace
from jobs.blobs.s3 import StoreRefused
from jobs.db.database import check_place
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError


def check_ledger(dsn: str, nodes: int) -> None:
    """Open the database, and make its tables where it has none. ConfigError names the field and the
    reason, without the DSN, which may hold a password. nodes: machines of the cluster."""
    try:
        check_place(dsn, nodes)
        SqlLedger(dsn).close()
    except (LedgerError, ValueError) as error:
        raise ConfigError(f"ledger.dsn: {error}") from None


def check_blobs(place: BlobPlace) -> None:
    """Try a bucket: it must be there, and be read and written. ConfigError names the field."""
    try:
        check_bucket(place)
    except (StoreRefused, OSError) as error:
        raise ConfigError(f"{place.field}.{error}") from None
