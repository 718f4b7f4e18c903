"""Pictures: each order is a job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from meltproof_temporal.failures import undrawn
from meltproof_temporal.following import Patience, followed, known_id
from meltproof_temporal.heartbeats import Beat
from meltproof_temporal.keys import idempotency_key
from meltproof_temporal.orders import Drawn, Picture, Progress, Refusal
from meltproof_temporal.service import Json, Service

ENDED = frozenset({"succeeded", "failed", "blocked", "cancelled", "expired"})


class JobOrder:
    """See Order."""

    def __init__(self, service: Service, path: str, body: Mapping[str, Any]) -> None:
        self._service, self._path, self._body = service, path, body
        self._key = idempotency_key(activity.info(), path, body)

    async def place(self) -> str:
        """See Order."""
        job = await self._service.order(self._path, self._body, self._key)
        return str(job["id"])

    async def end(self, order_id: str, beat: Beat) -> Json:
        """The job's events; connections that end before it are made again."""
        patience = Patience()
        while True:
            failed = None
            try:
                async with aclosing(self._service.states(order_id)) as states:
                    async for job in states:
                        patience.heard()
                        beat(progress(job))
                        if job["state"] in ENDED:
                            return job
            except ApplicationError as error:
                failed = error
            await patience.pause(failed)

    async def withdraw(self, order_id: str) -> None:
        """See Order."""
        await self._service.cancel(order_id)


async def drawn(service: Service, path: str, body: Mapping[str, Any]) -> Drawn:
    """Order, or find what an earlier attempt ordered, and wait. Raises ApplicationError."""
    job = await followed(JobOrder(service, path, body), known_id("job_id"))
    if job["state"] != "succeeded":
        raise undrawn(job)
    pictures = [_picture(service, job["id"], image) for image in job["images"]]
    return Drawn(job["id"], job["model"], pictures)


def progress(job: Json) -> Progress:
    """What a heartbeat says of a job."""
    previews = [f"{it['index']}.{pass_no}" for it in job["images"] for pass_no in it["previews"]]
    return Progress(job["id"], job["state"], job["passes_done"], job["passes_total"], previews)


def _picture(service: Service, job_id: str, image: Json) -> Picture:
    index, error = image["index"], image["error"]
    was_drawn = image["state"] == "succeeded"
    url = service.picture_url(job_id, index) if was_drawn else None
    refusal = Refusal(error["code"], error["message"]) if error else None
    return Picture(image["id"], index, image["seed"], url, refusal)
