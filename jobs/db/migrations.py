"""How an older ledger becomes today's: one entry a version, in order, never edited once released.

Everything happens in one transaction, behind a lock: of several processes that start at once, one
upgrades and the others find it done.

Old and new code work on one ledger at the same time while a cluster is updated. So a step only
adds: tables, indexes, columns that are nullable or have a default. Older code goes on beside it,
and starts again. A step that older code would misread raises READABLE_FROM to its own version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text

from jobs.db.accounts_schema import accounts
from jobs.db.schema import migrated, schema_version
from jobs.ledger import LedgerError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 2: accounts, a limit on waiting jobs, a limit on refunds
        """create table tenants (id text not null primary key, tier text not null,
            created_at double precision not null)""",
        """create table api_keys (hash text not null primary key, prefix text not null unique,
            tenant text not null, tier text not null, created_at double precision not null,
            rotated_at double precision, revoked_at double precision)""",
        "create index api_keys_of_tenant on api_keys (tenant)",
        """create table accounts (id integer not null primary key, revision bigint not null,
            url_secret text not null)""",
        "create index jobs_waiting on jobs (tenant, lane, seq) where state = 'queued'",
        "alter table quota add column refunded_blocks integer not null default 0",
    ),
    (  # 3: how far the collector has come
        """create table retention (lane text not null, step text not null, seq bigint not null,
            until double precision not null, primary key (lane, step))""",
    ),
    (  # 4: giving way; what is held says whose it is
        "alter table jobs add column preemptions integer not null default 0",
        "alter table jobs add column way_made boolean not null default false",
        "alter table leases add column lane text not null default ''",
        "alter table leases add column tier text not null default ''",
        "alter table leases add column tenant text not null default ''",
        "alter table leases add column images integer not null default 1",
        "alter table leases add column passes integer not null default 1",
        "alter table leases add column claimed_at double precision not null default 0",
        "alter table leases add column yield_to text",
        """update leases set lane = (select lane from jobs where id = job_id),
            tier = (select tier from jobs where id = job_id),
            tenant = (select tenant from jobs where id = job_id)""",
        "alter table lanes rename column served_seconds to began",
        "alter table lanes rename column served_at to vtime_at",
        "alter table lanes add column ended double precision not null default 0",
        "update lanes set began = 0",
    ),
    (  # 5: a sample of the queues, by which places are estimated
        """create index jobs_sampled on jobs (lane, tier, vft, seq, cost_seconds, state, id)
            where state = 'queued' and substr(id, 31) in ('00', '40', '80', 'c0')""",
    ),
    (  # 6: tenants at their limit of concurrent renders
        """create index jobs_parked on jobs (tenant, vft)
            where state = 'queued' and vft >= 1099511627776.0""",
    ),
    (  # 7: what images have cost
        """create table costs (model text not null, pixels bigint not null,
            passes integer not null, seconds double precision not null, renders bigint not null,
            primary key (model, pixels, passes))""",
    ),
    (  # 8: temporary limits, and when they changed
        """create table limit_levels (lane text not null primary key, level integer not null,
            since double precision not null, reason text not null,
            drain_seconds double precision not null, read_at double precision not null,
            held_since double precision not null)""",
        """create table limit_changes (lane text not null, at double precision not null,
            from_level integer not null, to_level integer not null, reason text not null,
            drain_seconds double precision not null, primary key (lane, at))""",
    ),
    (  # 9: files, and which job an edit goes on from
        "alter table jobs add column parent text",
        "create index jobs_of_parent on jobs (tenant, parent, seq) where parent is not null",
        """create table files (id text not null primary key, tenant text not null,
            purpose text not null, filename text not null, bytes bigint not null,
            width integer not null, height integer not null, blobs text not null,
            created_at double precision not null, expires_at double precision not null)""",
        "create index files_of_tenant on files (tenant, purpose, created_at, id)",
        "create index files_expiring on files (expires_at)",
    ),
    (  # 10: how far a ledger has come is told apart from who may read it
        "create table meltproof_migrations (version integer not null primary key)",
    ),
    (  # 11: which directory the pictures are in
        "create table stores (name text not null primary key, id text not null)",
    ),
    (  # 12: orders that share a job; a key belongs to its lane; a limit on refunded passes
        "alter table jobs add column orders integer not null default 1",
        "alter table quota add column refunded_passes integer not null default 0",
        "drop index jobs_of_key",
        """create unique index jobs_of_key on jobs (tenant, idempotency_key, lane)
            where idempotency_key is not null""",
    ),
)
"""What turns version 1 into 2, 2 into 3, and so on: statements that both databases understand.
schema.py is what comes out in the end; a test compares the two."""

SCHEMA_VERSION = 1 + len(MIGRATIONS)
READABLE_FROM = 9
"""The oldest version whose code reads and writes the newest tables as they are meant."""


class SchemaTooNew(LedgerError):
    """The database was written by a newer Meltproof; this one would misread it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a database is. readable_from: the oldest version that may work with it. 0: there is no
    ledger yet."""

    version: int
    readable_from: int

    @property
    def ready(self) -> bool:
        """Nothing is to be done before this version of the code works with it."""
        return self.version >= SCHEMA_VERSION >= self.readable_from


def prepare(connection: Connection, lock: Callable[[Connection], None]) -> None:
    """Create or upgrade, inside the caller's transaction. `lock` keeps out others who do the same.
    SchemaTooNew for a newer database that this code would misread."""
    lock(connection)
    found = stored_version(connection)
    if found.readable_from > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{connection.engine.url.database}: its schema needs version {found.readable_from}, "
            f"this Meltproof knows up to {SCHEMA_VERSION}; start the newer one"
        )
    if found.version == 0:
        accounts.metadata.create_all(connection)  # those of schema.py too
    else:
        for statements in MIGRATIONS[found.version - 1 :]:
            for statement in statements:
                connection.exec_driver_sql(statement)
    if found.version < SCHEMA_VERSION:
        connection.execute(migrated.insert().values(version=SCHEMA_VERSION))
    if found.readable_from < READABLE_FROM:
        connection.execute(schema_version.insert().values(version=READABLE_FROM))


def stored_version(connection: Connection) -> Stored:
    """What is there."""
    look = inspect(connection)
    if not look.has_table(schema_version.name):
        return Stored(0, 0)
    readable_from = int(connection.execute(text(_NEWEST.format(schema_version))).scalar_one())
    if not look.has_table(migrated.name):
        return Stored(readable_from, readable_from)
    version = int(connection.execute(text(_NEWEST.format(migrated))).scalar_one())
    return Stored(version, readable_from)


_NEWEST = "select max(version) from {}"
