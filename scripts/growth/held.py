"""What a claim costs while more and more jobs are held, in a tier that limits what each tenant
renders at once. They are really claimed, and nothing renews or ends them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, TIER, WHALE, Backlog, copy, recount, wish
from scripts.growth.fit import Kind, Row
from scripts.growth.ledgers import AT_ONCE, DATABASES, LEASE_SECONDS, TENANTS, TIERS
from scripts.report import say

CHUNK = 500
ROOMY = {TIER: replace(TIERS[TIER], concurrent_renders=1_000_000)}
"""Tenants are counted, and none is at its limit."""


def measure(database: str, sizes: Sequence[int], repeats: int, folder: Path) -> list[Row]:
    """Of one row. sizes: of held jobs, ascending."""
    spent: dict[int, list[float]] = {}
    with DATABASES[database](folder) as url, closing(SqlLedger(url, tiers=ROOMY)) as ledger:
        template = ledger.submit(wish(WHALE)).job.id
        copy(url, template, 0, Backlog(sizes[-1] + CHUNK + 2 * AT_ONCE * repeats, TENANTS), {})
        recount(url, template)
        held = 0
        for size in sizes:
            while held < size:
                held += len(ledger.claim(LANE, "bench", min(CHUNK, size - held), LEASE_SECONDS))
            spent[size] = []
            for _ in range(repeats):
                began = time.perf_counter()
                held += len(ledger.claim(LANE, "bench", AT_ONCE, LEASE_SECONDS))
                spent[size].append(1000 * (time.perf_counter() - began))
            say(f"  {size:,} held on {database}: claim {AT_ONCE} in {min(spent[size]):.2f} ms")
    what = f"claim {AT_ONCE}"
    return [Row("jobs held", database, what, "ms", Kind.OPERATION, spent)]
