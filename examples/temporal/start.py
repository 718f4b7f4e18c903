"""Start a campaign and decide on its pictures in a terminal: `python -m examples.temporal.start`.
It may be left and started again: the campaign goes on under its name."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from examples.temporal.campaign import Brief, Campaign, Decision, Published
from examples.temporal.worker import QUEUE


async def main() -> None:
    """Ask about every picture until the campaign is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temporal", default="127.0.0.1:7233")
    parser.add_argument("--queue", default=QUEUE)
    parser.add_argument("--folder", type=Path, default=Path("campaign"))
    parser.add_argument("name")
    parser.add_argument("prompts", nargs="+")
    args = parser.parse_args()
    client = await Client.connect(args.temporal)
    campaign = await client.start_workflow(
        Campaign.run,
        Brief(args.prompts, str(args.folder.resolve())),
        id=f"campaign-{args.name}",
        task_queue=args.queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    done = asyncio.create_task(campaign.result())
    while not done.done():
        await asyncio.gather(_ask(campaign), asyncio.wait([done], timeout=1))
    print("\n".join(done.result().files))


async def _ask(campaign: WorkflowHandle[Campaign, Published]) -> None:
    for prompt, picture in (await campaign.query(Campaign.review)).waiting.items():
        question = f"{prompt}: {picture.url}\n  yes, no, or what should change? "
        said = (await asyncio.to_thread(input, question)).strip()
        delta = None if said in ("yes", "no") else said
        await campaign.signal(Campaign.decide, Decision(picture.id, said == "yes", delta))


if __name__ == "__main__":
    asyncio.run(main())
