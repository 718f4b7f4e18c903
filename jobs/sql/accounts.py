"""API keys in the ledger's database: made, listed, rotated, revoked, and looked up by their hash.

A key is shown once, when it is made; only its hash is kept. Of SqlLedger; calls block.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection, String, TextClause, bindparam, func, select, text

from jobs.db.schema import accounts, api_keys
from jobs.db.statements import TENANT
from jobs.ledger_errors import LedgerError
from jobs.request import Role, Tenant

KEY_START = "sk-mp-"
"""What every key of the ledger begins with: anything else needs no look-up."""
PREFIX_LENGTH = len(KEY_START) + 8
_SECRET_BYTES = 32

_ENTER = text("""insert into accounts (id, revision, url_secret) values (1, 0, :secret)
    on conflict (id) do nothing""")
_NEWS = text("update accounts set revision = revision + 1")
_NEW_KEY = text("""insert into api_keys (hash, prefix, tenant, tier, role, created_at)
    values (:hash, :prefix, :tenant, :tier, :role, :now)""")
_ROTATE = text("""update api_keys set hash = :hash, prefix = :prefix, rotated_at = :now
    where prefix = :was and revoked_at is null""")
_REVOKE = text("""update api_keys set revoked_at = :now
    where prefix = :prefix and revoked_at is null""")
_OWNERS = text("""select hash, tenant, tier, coalesce(role, 'tenant') from api_keys
    where hash in :hashes and revoked_at is null""").bindparams(
    bindparam("hashes", type_=String, expanding=True)
)
_OWNER = text("""select tenant, tier, coalesce(role, 'tenant') from api_keys
    where hash = :hash and revoked_at is null""")


class UnknownKey(LedgerError):
    """No key that is in use has that prefix."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown. Times are seconds since the epoch; None: never."""

    prefix: str
    tenant: str
    tier: str
    created_at: float
    rotated_at: float | None
    revoked_at: float | None
    role: Role


def key_hash(key: str) -> str:
    """What is kept of a key: sha256 in hex."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _new_key() -> str:
    return KEY_START + secrets.token_urlsafe(_SECRET_BYTES)


Transaction = Callable[[], AbstractContextManager[Connection]]
Now = Callable[[Connection], float]


class Accounts:
    """The keys of every lane that shares the database. Raises LedgerUnavailable, as the ledger."""

    def __init__(self, write: Transaction, read: Transaction, now: Now) -> None:
        self._write = write
        self._read = read
        self._now = now

    def create(self, tenant: str, tier: str, role: Role = "tenant") -> str:
        """A new key, and the tenant where there is none yet. The key, which cannot be shown again.
        A tenant may have several."""
        key = _new_key()
        with self._write() as connection:
            owner = {"tenant": tenant, "tier": tier, "now": self._now(connection)}
            connection.execute(TENANT, owner)
            connection.execute(_NEW_KEY, {**owner, "role": role, **_names(key)})
            connection.execute(_NEWS)
        return key

    def rotate(self, prefix: str) -> str:
        """Another key in the place of that one, which opens nothing from now on. UnknownKey."""
        key = _new_key()
        self._change(_ROTATE, {**_names(key), "was": prefix}, prefix)
        return key

    def revoke(self, prefix: str) -> None:
        """That key opens nothing from now on. UnknownKey."""
        self._change(_REVOKE, {"prefix": prefix}, prefix)

    def _change(self, statement: TextClause, values: dict[str, object], prefix: str) -> None:
        with self._write() as connection:
            values["now"] = self._now(connection)
            if connection.execute(statement, values).rowcount != 1:
                raise UnknownKey(f"no key that is in use begins with {prefix!r}")
            connection.execute(_NEWS)

    def keys(self, tenant: str | None = None) -> list[ApiKey]:
        """Every key, revoked ones too, oldest first; of one tenant, if named."""
        shown = select(
            api_keys.c.prefix, api_keys.c.tenant, api_keys.c.tier, api_keys.c.created_at,
            api_keys.c.rotated_at, api_keys.c.revoked_at,
            func.coalesce(api_keys.c.role, "tenant"),
        ).order_by(api_keys.c.created_at, api_keys.c.prefix)  # fmt: skip
        if tenant is not None:
            shown = shown.where(api_keys.c.tenant == tenant)
        with self._read() as connection:
            return [ApiKey(*row) for row in connection.execute(shown)]

    def owners(self, hashes: Sequence[str]) -> tuple[dict[str, Tenant], int]:
        """`owner` of several: those that are in use, by their hash."""
        with self._read() as connection:
            found = connection.execute(_OWNERS, {"hashes": list(hashes)}).all()
            revision = connection.execute(select(accounts.c.revision)).scalar_one()
        return {hashed: Tenant(*tenant) for hashed, *tenant in found}, int(revision)

    def owner(self, hashed: str) -> tuple[Tenant | None, int]:
        """The tenant of that key, None for none that is in use; and the revision that says so."""
        with self._read() as connection:
            found = connection.execute(_OWNER, {"hash": hashed}).first()
            revision = connection.execute(select(accounts.c.revision)).scalar_one()
        return (None if found is None else Tenant(*found)), int(revision)

    def revision(self) -> int:
        """Grows with every change of any key."""
        with self._read() as connection:
            return int(connection.execute(select(accounts.c.revision)).scalar_one())

    def url_secret(self) -> bytes:
        """What the URLs of pictures are signed with, the same for all gateways on this database."""
        with self._read() as connection:
            return bytes.fromhex(connection.execute(select(accounts.c.url_secret)).scalar_one())


def open_accounts(connection: Connection) -> None:
    """Make the one row of a new database; inside the caller's transaction."""
    connection.execute(_ENTER, {"secret": secrets.token_hex(_SECRET_BYTES)})


def forget_tenant(connection: Connection, tenant: str) -> None:
    """Delete the tenant and its keys; inside the caller's transaction."""
    for statement in _FORGET:
        connection.execute(statement, {"tenant": tenant})
    connection.execute(_NEWS)


_FORGET = (
    text("delete from api_keys where tenant = :tenant"),
    text("delete from tenants where id = :tenant"),
)


def _names(key: str) -> dict[str, str]:
    return {"hash": key_hash(key), "prefix": key[:PREFIX_LENGTH]}
