"""Activities as Temporal calls them, without a server of its."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from meltproof_temporal import Batch, Edit, Generate, MeltproofActivities, Tweak
from tests.temporal.conftest import KEY, Service

QUICKLY = timedelta(milliseconds=60)


class Attempt:
    """One attempt of an activity, and what it told of itself."""

    def __init__(self, service: Service, *, url: str = "", key: str = KEY, **info: Any) -> None:
        self._meltproof = MeltproofActivities(url or service.url, key)
        self.environment = ActivityEnvironment()
        known = {"heartbeat_timeout": QUICKLY, **info}
        self.environment.info = replace(self.environment.info, **known)
        self.beats: list[Any] = []
        self.environment.on_heartbeat = lambda *said: self.beats.extend(said)

    async def of(self, order: Generate | Edit | Tweak | Batch) -> Any:
        """Its result."""
        async with self._meltproof as meltproof:
            if isinstance(order, Generate):
                return await self.environment.run(meltproof.generate, order)
            if isinstance(order, Edit):
                return await self.environment.run(meltproof.edit, order)
            if isinstance(order, Batch):
                return await self.environment.run(meltproof.batch, order)
            return await self.environment.run(meltproof.tweak, order)

    async def failed(self, order: Generate | Edit | Tweak | Batch) -> ApplicationError:
        """Its failure."""
        with pytest.raises(ApplicationError) as failed:
            await self.of(order)
        return failed.value
