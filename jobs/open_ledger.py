"""From a description of where the rows are to the ledger over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from jobs.job_ids import VIRTUAL_SHARDS
from jobs.shard import Shard
from jobs.sharded_ledger import ShardedLedger
from jobs.sql_ledger import SqlLedger


@dataclass(frozen=True, slots=True)
class Places:
    """dsn: the accounts, and the jobs too where there are no shards. shards: URLs of the databases
    that hold the jobs. home: for each virtual shard, the number of its database."""

    dsn: str
    shards: tuple[str, ...] = ()
    home: tuple[int, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Every database."""
        return (self.dsn, *self.shards)


def open_ledger(places: Places, **settings: Any) -> SqlLedger | ShardedLedger:
    """A ledger with the settings of SqlLedger. One database must answer now (LedgerUnavailable);
    of several, each when it is first asked."""
    if not places.shards:
        return SqlLedger(places.dsn, **settings)
    made = {url: Shard(partial(SqlLedger, url, **settings)) for url in places.urls}
    ledger = ShardedLedger([made[url] for url in places.shards], places.home, made[places.dsn])
    ledger.tiers = settings.get("tiers") or {}
    return ledger


def even_home(shards: int) -> tuple[int, ...]:
    """Every database gets as many neighbouring virtual shards."""
    return tuple(virtual * shards // VIRTUAL_SHARDS for virtual in range(VIRTUAL_SHARDS))
