"""An image's outcome is written to the ledger exactly once, however long the ledger is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dispatch.in_flight import InFlightRender, State
from jobs.client.async_ledger import AsyncLedger
from jobs.job import RenderState
from jobs.lease import Outcome
from jobs.ledger_errors import LeaseLost, LedgerUnavailable

RETRY_FIRST_SECONDS = 0.2
RETRY_LAST_SECONDS = 2.0


async def settle(
    ledger: AsyncLedger, render: InFlightRender, outcome: Outcome, lease_seconds: float
) -> None:
    """Until it is written, or its job dropped. Raises LeaseLost when another holder has it."""
    pause = RETRY_FIRST_SECONDS
    if outcome.state is RenderState.FAILED:  # its tries may have been shorter than a heartbeat
        outcome = replace(outcome, pass_no=render.furthest, attempts=render.attempts)
    while render.state is State.SETTLING:
        try:
            if set(render.progress.previews) - render.recorded:  # a settled image takes none
                await ledger.renew([render.lease.beat(render)], lease_seconds)
            await _write(ledger, render, outcome)
        except LedgerUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_SECONDS)
        else:
            return


async def _write(ledger: AsyncLedger, render: InFlightRender, outcome: Outcome) -> None:
    """An earlier try may have come through although its answer was lost: that is no lost lease."""
    job = render.lease.job
    try:
        await ledger.finish_render(job.id, job.fence, render.index, outcome)
    except LeaseLost:
        stored = await ledger.get(job.id)
        if stored is None or stored.fence != job.fence:
            raise
        found = stored.renders[render.index]
        if (found.state, found.blob) != (outcome.state, outcome.blob):
            raise
