"""Whose pictures are decoded when, however long those of others take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from serve_app.uploads.inputs import INSIDE, Inputs


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[Inputs]:
    ledger = AsyncLedger(SqlLedger(f"sqlite:///{tmp_path}/ledger.db"))
    made = Inputs(ledger, DirectoryBlobs(tmp_path / "blobs"))
    yield made
    made.close()
    ledger.close()


@asynccontextmanager
async def asking(inputs: Inputs, tenant: str) -> AsyncIterator[asyncio.Event]:
    """A request of the tenant; the event says that it is inside, where it stays."""
    inside = asyncio.Event()

    async def ask() -> None:
        async with inputs.turn(tenant, 1.0):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    try:
        yield inside
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_slow_pictures_of_one_tenant_leave_the_others_a_decoder(inputs: Inputs) -> None:
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(asking(inputs, "slow")) for _ in range(10)]
        async with inputs.turn("quiet", 1.0):
            assert [one.is_set() for one in slow] == [True] + [False] * 9


async def test_a_tenants_pictures_come_in_the_order_of_their_arrival(inputs: Inputs) -> None:
    async with asking(inputs, "busy") as first, asking(inputs, "busy") as second:
        await asyncio.sleep(0)
        assert (first.is_set(), second.is_set()) == (True, False)
    async with asking(inputs, "busy") as next_one:
        await asyncio.sleep(0)
        assert next_one.is_set()


async def test_there_are_not_more_inside_than_are_decoded(inputs: Inputs) -> None:
    async with AsyncExitStack() as stack:
        tenants = [f"tenant {number}" for number in range(INSIDE + 2)]
        each = [await stack.enter_async_context(asking(inputs, one)) for one in tenants]
        await asyncio.sleep(0)
        assert [one.is_set() for one in each] == [True] * INSIDE + [False] * 2
