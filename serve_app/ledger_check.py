"""Whether the ledger of a config file can be used here; said before anything is started."""

from __future__ import annotations

from jobs.database import check_place
from jobs.ledger import LedgerError
from jobs.open_ledger import Places
from jobs.sql_ledger import SqlLedger
from serve_app.config_errors import ConfigError


def check_ledger(places: Places, nodes: int) -> None:
    """Create, upgrade or only open every database. ConfigError names the field and the reason,
    without the DSN, which may hold a password. nodes: machines of the cluster."""
    fields = ("dsn", *(f"shards.{number}.dsn" for number in range(len(places.shards))))
    for field, url in zip(fields, places.urls, strict=True):
        try:
            check_place(url, nodes)
            SqlLedger(url).close()
        except (LedgerError, ValueError) as error:
            raise ConfigError(f"ledger.{field}: {error}") from None
