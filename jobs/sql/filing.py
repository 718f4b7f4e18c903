"""The ledger's side of files: rows in, rows out. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.batch_tables import HIDE_INPUT
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import dump, load, storable
from jobs.files import INPUT, UNLIMITED, FileRoom, StoredFile, input_prefix
from jobs.ledger_errors import FilesFull
from jobs.sql.verbs import SqlVerbs


def insert_file(connection: Connection, file: StoredFile, room: FileRoom, now: float) -> StoredFile:
    """It as it is stored: with a true time, and as long a life as it came with. ValueError for
    blobs that a collector would not find."""
    if not all(key.startswith(f"{input_prefix(file.id)}/") for key in file.blobs):
        raise ValueError(f"blobs of {file.id} are below {input_prefix(file.id)}: {file.blobs}")
    if file.purpose != INPUT:
        _check_room(connection, file, room, now)
    life_seconds = file.expires_at - file.created_at
    stored = replace(
        file, filename=storable(file.filename), created_at=now, expires_at=now + life_seconds
    )
    connection.execute(sql.NEW_FILE, asdict(stored) | {"blobs": dump(stored.blobs)})
    return stored


def _check_room(connection: Connection, file: StoredFile, room: FileRoom, now: float) -> None:
    """Uploads of one tenant take turns, so that it is exact."""
    if connection.dialect.name == "postgresql":
        connection.execute(sql.LOCK_FILES, {"tenant": file.tenant})
    if (
        room.newcomer_bytes < room.bytes
        and connection.execute(sql.KNOWN_TENANT, {"tenant": file.tenant}).first() is None
    ):
        room = replace(room, bytes=room.newcomer_bytes)
    kept = {"tenant": file.tenant, "purpose": file.purpose, "now": now}
    row = connection.execute(sql.FILES_KEPT, kept).one()
    if row.files + 1 > room.files or row.bytes + file.bytes > room.bytes:
        raise FilesFull(room, int(row.files), int(row.bytes))


def postpone(
    connection: Connection, files: Sequence[StoredFile], now: float, seconds: float
) -> None:
    """Let these expire later, with a row where they have none."""
    times = {"created_at": now, "expires_at": now + seconds}
    rows = [{**asdict(file), "blobs": dump(file.blobs), **times} for file in files]
    if rows:
        connection.execute(sql.POSTPONE_FILE, rows)


def load_file(connection: Connection, tenant: str, file_id: str, now: float) -> StoredFile | None:
    """One that its tenant may see."""
    where = {"tenant": tenant, "id": file_id, "now": now}
    row = connection.execute(sql.FILE, where).first()
    return None if row is None else file_record(row)


def load_files(
    connection: Connection, tenant: str, limit: int, after: str | None, purpose: str, now: float
) -> list[StoredFile]:
    """Those that the tenant may see, newest first, from behind the file `after`; purpose: only
    those, if not empty."""
    where: dict[str, object] = {"tenant": tenant, "limit": limit, "purpose": purpose, "now": now}
    statement = sql.FILES if after is None else sql.FILES_AFTER
    rows = connection.execute(statement, where if after is None else where | {"after": after})
    return [file_record(row) for row in rows]


def load_stale(
    connection: Connection, limit: int, tenant: str | None, now: float
) -> list[StoredFile]:
    """Those to be forgotten: expired ones, or all of a tenant."""
    if tenant is None:
        rows = connection.execute(sql.STALE_FILES, {"now": now, "limit": limit})
    else:
        rows = connection.execute(sql.FILES_OF_TENANT, {"tenant": tenant, "limit": limit})
    return [file_record(row) for row in rows]


def file_record(row: Sequence[Any]) -> StoredFile:
    """A row of statements.FILE_COLUMNS."""
    file_id, tenant, purpose, filename, size, width, height, blobs, created_at, expires_at = row
    return StoredFile(
        id=file_id,
        tenant=tenant,
        purpose=purpose,
        filename=filename,
        bytes=size,
        width=width,
        height=height,
        blobs=load(blobs),
        created_at=created_at,
        expires_at=expires_at,
    )


class SqlFileTable(SqlVerbs):
    """See FileTable."""

    @again_if_overtaken
    def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        with self._write() as connection:
            return insert_file(connection, file, room, self._now(connection))

    def file(self, tenant: str, file_id: str) -> StoredFile | None:
        with self._read() as connection:
            return load_file(connection, tenant, file_id, self._now(connection))

    def files(
        self, tenant: str, limit: int, after: str | None = None, purpose: str = ""
    ) -> list[StoredFile]:
        with self._read() as connection:
            return load_files(connection, tenant, limit, after, purpose, self._now(connection))

    @again_if_overtaken
    def drop_file(self, tenant: str, file_id: str) -> bool:
        with self._write() as connection:
            what = {"tenant": tenant, "id": file_id, "now": self._now(connection)}
            if connection.execute(HIDE_INPUT, what).rowcount > 0:
                return True
            return connection.execute(sql.DROP_FILE, what).rowcount > 0

    @again_if_overtaken
    def store_id(self, found: str | None = None) -> str | None:
        with self._read() as connection:
            known: str | None = connection.execute(sql.STORE_ID).scalar()
        if known is not None or found is None:
            return known
        with self._write() as connection:
            connection.execute(sql.NEW_STORE_ID, {"id": found})
            return str(connection.execute(sql.STORE_ID).scalar_one())
