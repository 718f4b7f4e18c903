"""The accounts of a sharded ledger: in one database, which may be away."""

from __future__ import annotations

from jobs.request import Tenant
from jobs.shard import Shard


class ShardedKeys:
    """See jobs.ledger.Keys. Raises LedgerUnavailable."""

    def __init__(self, accounts: Shard) -> None:
        self._accounts = accounts

    def owner(self, hashed: str) -> tuple[Tenant | None, int]:
        """See Keys."""
        return self._accounts.ask(lambda ledger: ledger.accounts.owner(hashed))

    def revision(self) -> int:
        """See Keys."""
        return self._accounts.ask(lambda ledger: ledger.accounts.revision())

    def url_secret(self) -> bytes:
        """See Keys."""
        return self._accounts.ask(lambda ledger: ledger.accounts.url_secret())
