"""The activities: each orders once, follows its job, and cancels it when it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

from temporalio import activity

from meltproof_temporal.batch_orders import batched
from meltproof_temporal.bodies import edit_order, generate_order, tweak_order
from meltproof_temporal.job_orders import drawn
from meltproof_temporal.orders import Batch, Batched, Drawn, Edit, Generate, Tweak
from meltproof_temporal.service import Service


class MeltproofActivities:
    """For a worker of one's own: `Worker(client, task_queue=..., activities=[*meltproof.all])`
    inside `async with MeltproofActivities(url, key) as meltproof`. url: of a lane, what stands
    before `/v1`. The key is in no history. A workflow names them by this class:
    `workflow.execute_activity_method(MeltproofActivities.generate, Generate(prompt="a fox"), ...)`,
    with a `heartbeat_timeout`, without which neither cancelling nor a dead worker is noticed."""

    def __init__(self, url: str, key: str) -> None:
        self._service = Service(url, key)

    async def __aenter__(self) -> MeltproofActivities:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._service.close()

    @property
    def all(self) -> Sequence[Callable[..., Awaitable[Any]]]:
        """Every activity, for a worker."""
        return [self.generate, self.edit, self.tweak, self.batch]

    @activity.defn(name="meltproof_generate")
    async def generate(self, order: Generate) -> Drawn:
        """Draw from words. Raises ApplicationError, as the others do."""
        return await drawn(self._service, *generate_order(order))

    @activity.defn(name="meltproof_edit")
    async def edit(self, order: Edit) -> Drawn:
        """Change pictures that the service keeps or may fetch."""
        return await drawn(self._service, *edit_order(order))

    @activity.defn(name="meltproof_tweak")
    async def tweak(self, order: Tweak) -> Drawn:
        """Go on from a picture that was drawn there."""
        return await drawn(self._service, *tweak_order(order))

    @activity.defn(name="meltproof_batch")
    async def batch(self, batch: Batch) -> Batched:
        """Draw many orders within a day, after whatever else waits."""
        return await batched(self._service, batch)
