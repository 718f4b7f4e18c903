"""A worker: `python -m examples.temporal.worker`. Start as many as you like; kill any of them."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from examples.temporal.campaign import Campaign, Publisher
from meltproof_temporal import MeltproofActivities

QUEUE = "campaigns"
CANCELLED_WITHIN = timedelta(seconds=1)
"""A cancellation comes back with a heartbeat; Temporal would send one in 8 s of a timeout of 10."""
STICKY = timedelta(seconds=2)
"""How long the workflows of a worker that died wait for it before another one takes them."""


async def main() -> None:
    """Work until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temporal", default="127.0.0.1:7233")
    parser.add_argument("--meltproof", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="sk-local")
    parser.add_argument("--queue", default=QUEUE)
    args = parser.parse_args()
    client = await Client.connect(args.temporal)
    async with MeltproofActivities(args.meltproof, args.key) as meltproof:
        await Worker(
            client,
            task_queue=args.queue,
            workflows=[Campaign],
            activities=[*meltproof.all, Publisher(args.key).publish],
            sticky_queue_schedule_to_start_timeout=STICKY,
            max_heartbeat_throttle_interval=CANCELLED_WITHIN,
        ).run()


if __name__ == "__main__":
    asyncio.run(main())
