"""The accounts' tables, in the same database as the jobs: who may ask, and with which keys.

Nothing here reads or writes an account. See docs/decisions/0012.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text

from jobs.db.schema import metadata

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tier", Text, nullable=False),  # as of the newest submit
    Column("created_at", Double, nullable=False),
)

# Of a key only its hash is kept: keys are random and long, so that nobody finds one by trying.
api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", Text, primary_key=True),  # sha256, hex
    Column("prefix", Text, nullable=False, unique=True),  # names the key for people
    Column("tenant", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rotated_at", Double),
    Column("revoked_at", Double),
)
Index("api_keys_of_tenant", api_keys.c.tenant)

# One row. revision: grows with every change of a key, so that one number says whether what a
# gateway remembers still holds. url_secret: signs the URLs of pictures, the same on every gateway.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("url_secret", Text, nullable=False),  # hex
)
