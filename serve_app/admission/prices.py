"""What a request will cost, by what decoders have measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from jobs.client.async_ledger import AsyncCostsAndLimits
from jobs.costs import ImageCost, Kind, predicted_seconds
from jobs.ledger_errors import LedgerUnavailable
from jobs.request import ImageRequest

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0


class Prices:
    """What images cost lately. While the ledger is away, what is known stays known."""

    def __init__(self, ledger: AsyncCostsAndLimits) -> None:
        self._ledger = ledger
        self._known: dict[str, Mapping[Kind, ImageCost]] = {}
        self._looked_at: dict[str, float] = {}

    async def priced(self, request: ImageRequest) -> ImageRequest:
        """The same request with the predicted GPU-seconds of all its images, instead of those that
        the configuration says. Asks the ledger at most every FRESH_SECONDS."""
        now, model = time.monotonic(), request.model
        if now - self._looked_at.get(model, float("-inf")) >= FRESH_SECONDS:
            self._looked_at[model] = now
            try:
                costs = await self._ledger.costs(model)
            except LedgerUnavailable as error:
                log.warning("the ledger is away, known costs stay known: %s", error)
            else:
                self._known[model] = {cost.kind: cost for cost in costs}
        prior = request.cost_seconds / request.n
        seconds = predicted_seconds(request, self._known.get(model, {}), prior)
        if seconds == prior:
            return request
        return replace(request, cost_seconds=request.n * seconds)
