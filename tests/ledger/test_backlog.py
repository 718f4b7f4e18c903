"""The bench's long queue is what as many submits would have left."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from jobs.db.schema import metadata
from scripts.bench_ledger.backlog import LANE, Backlog, fill, wish
from scripts.postgres import side_door
from tests.stages.ledger_kit import Database

OWN = {"id", "job_id", "seq"}


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every table, without what no two runs share."""
    engine = side_door(url)
    found: dict[str, list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        for table in metadata.tables.values():
            names = [c.name for c in table.columns if c.name not in OWN]
            query = text(f"select {', '.join(names)} from {table.name}")
            found[table.name] = sorted((tuple(row) for row in connection.execute(query)), key=repr)
    engine.dispose()
    return found


def test_a_filled_ledger_is_a_submitted_one(database: Database, clock: Any) -> None:
    backlog = Backlog(queued=40, tenants=5)
    filled = database.open(clock=clock)
    fill(filled, database.url, backlog)
    copied = rows(database.url)
    order = [job.id for job in filled.claim(LANE, "w", 40, 60.0)]
    assert len(set(order)) == 40

    engine = side_door(database.url)
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name not in ("meltproof_schema", "meltproof_migrations", "accounts"):
                connection.execute(table.delete())
    engine.dispose()
    for i in range(40):
        filled.submit(wish(backlog.tenant_of(i)))
    assert rows(database.url) == copied
