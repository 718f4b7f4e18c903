"""Batches: files of orders that are drawn within a day, and whose results are files."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from meltproof_temporal.bodies import GENERATIONS
from meltproof_temporal.failures import invalid, unbatched
from meltproof_temporal.following import Patience, followed, known_id
from meltproof_temporal.heartbeats import Beat
from meltproof_temporal.keys import idempotency_key
from meltproof_temporal.orders import Batch, Batched, BatchProgress, spoken
from meltproof_temporal.service import Json, Service

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
BATCHES, FILES = "/v1/batches", "/v1/files"
MADE_BY = "temporal"
"""The name in a batch's metadata under which its key stands."""


class BatchOrder:
    """See Order. The file of an attempt that was killed may be another one's, too, which the
    service refuses as another body under the same key: the batch is then found by its metadata."""

    def __init__(self, service: Service, batch: Batch) -> None:
        self._service, self._batch = service, batch
        if bool(batch.orders) == (batch.input_file_id is not None):
            raise invalid("either orders or input_file_id", "orders")
        if MADE_BY in batch.metadata:
            raise invalid(f"'{MADE_BY}' is ours", "metadata")
        named = {"lines": _lines(batch), "input_file_id": batch.input_file_id}
        known = {"endpoint": batch.endpoint, "metadata": batch.metadata}
        self._key = idempotency_key(activity.info(), BATCHES, {**named, **known})

    async def place(self) -> str:
        """See Order."""
        if activity.info().attempt > 1 and (found := await self._found()):
            return found
        file_id, sent = self._batch.input_file_id, None
        if file_id is None:
            file_id = sent = await self._service.upload(_lines(self._batch).encode())
        body = {
            "input_file_id": file_id,
            "endpoint": self._batch.endpoint,
            "completion_window": "24h",
            "metadata": {**self._batch.metadata, MADE_BY: self._key},
        }
        try:
            return str((await self._service.order(BATCHES, body, self._key))["id"])
        except ApplicationError as error:
            if error.type != "idempotency_mismatch" or sent is None:
                raise
            await self._service.delete(f"{FILES}/{sent}")
            found = await self._found()
            if found is None:
                raise
            return found

    async def end(self, order_id: str, beat: Beat) -> Json:
        """Asked for now and then: a batch takes hours."""
        patience = Patience()
        while True:
            try:
                batch = await self._service.get(f"{BATCHES}/{order_id}")
            except ApplicationError as error:
                await patience.pause(error)
                continue
            patience.heard()
            beat(progress(batch))
            if batch["status"] in ENDED:
                return batch
            await asyncio.sleep(self._batch.poll_seconds)

    async def withdraw(self, order_id: str) -> None:
        """What was drawn stays in its output file."""
        await self._service.post(f"{BATCHES}/{order_id}/cancel")

    async def _found(self) -> str | None:
        """Of the newest batches the one with this key."""
        after = ""
        while True:
            page = await self._service.get(f"{BATCHES}?limit=100{after}")
            for batch in page["data"]:
                if (batch["metadata"] or {}).get(MADE_BY) == self._key:
                    return str(batch["id"])
            if not page["has_more"]:
                return None
            after = f"&after={page['last_id']}"


async def batched(service: Service, batch: Batch) -> Batched:
    """Order, or find what an earlier attempt ordered, and wait. Raises ApplicationError."""
    ended = await followed(BatchOrder(service, batch), known_id("batch_id"))
    if ended["status"] in ("failed", "cancelled"):
        raise unbatched(ended)
    counts = ended["request_counts"]
    files = ended["output_file_id"], ended["error_file_id"]
    return Batched(ended["id"], ended["status"], *files, counts["completed"], counts["failed"])


def progress(batch: Json) -> BatchProgress:
    """What a heartbeat says of a batch."""
    counts = batch["request_counts"]
    done = counts["completed"], counts["failed"], counts["total"]
    return BatchProgress(batch["id"], batch["status"], *done)


def _lines(batch: Batch) -> str:
    """JSON lines; the custom_id of an order is its place, from 0."""
    lines: list[dict[str, Any]] = [
        {"custom_id": str(place), "method": "POST", "url": GENERATIONS, "body": spoken(order)}
        for place, order in enumerate(batch.orders)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)
