"""The example against a real server of Temporal and a real gateway: whoever dies, and whenever, no
picture is drawn twice and none is lost. The ledger is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from tests.stages.tools import modules

modules("temporalio")

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from examples.temporal.campaign import Brief, Campaign, Decision, Published
from jobs.job import Job, JobState
from scripts.servers.temporal import TemporalServer
from tests.stages.ledger_kit import PATIENCE_SECONDS, wait_until
from tests.temporal.conftest import Service, Workers

HEARTBEAT_SECONDS = 60.0
"""Far longer than a busy machine keeps a worker from beating."""
SOON_SECONDS = 2.0
"""Where the end of a worker is to be noticed; a late heartbeat is a retry there, and no harm."""
Running = WorkflowHandle[Campaign, Published]


async def campaign(
    temporal: TemporalServer,
    queue: str,
    folder: Path,
    *prompts: str,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Running:
    client = await Client.connect(temporal.address)
    return await client.start_workflow(
        Campaign.run,
        Brief(list(prompts), str(folder), heartbeat_seconds),
        id=f"campaign-{uuid4()}",
        task_queue=queue,
    )


async def until(met: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, met, what)


async def waiting_for(running: Running, *prompts: str) -> dict[str, str]:
    """Ids by prompt, once exactly these wait for a decision."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            waiting = (await running.query(Campaign.review)).waiting
            if waiting.keys() == set(prompts):
                return {prompt: picture.id for prompt, picture in waiting.items()}
            await asyncio.sleep(0.02)


async def approve_all(running: Running, *prompts: str) -> Published:
    for picture in (await waiting_for(running, *prompts)).values():
        await running.signal(Campaign.decide, Decision(picture, approved=True))
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await running.result()


def passes_done(service: Service, *prompts: str) -> list[int]:
    return [render.pass_no for job in service.jobs(*prompts) for render in job.renders]


def drawn_once(service: Service, *prompts: str) -> list[Job]:
    """One job of each prompt, which succeeded at its first attempt under its first lease."""
    jobs = service.jobs(*prompts)
    assert sorted(job.request.prompt for job in jobs) == sorted(prompts)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert [render.attempts for job in jobs for render in job.renders] == [0] * len(jobs)
    return jobs


def published(files: list[str], jobs: list[Job]) -> None:
    assert sorted(Path(file).stem for file in files) == sorted(f"img_{job.id}_0" for job in jobs)
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (256, 256)


async def test_a_campaign_asks_changes_and_publishes(
    temporal: TemporalServer, service: Service, workers: Workers, folder: Path
) -> None:
    before = service.charged()
    prompts = "a fox that stays", "a fox that changes", "a fox that goes"
    running = await campaign(temporal, workers.queue, folder, *prompts, "a bomb of the campaign")
    first = await waiting_for(running, *prompts)
    changed = Decision(first["a fox that changes"], approved=False, delta="in the snow")
    await running.signal(Campaign.decide, changed)
    for prompt, approved in (("a fox that stays", True), ("a fox that goes", False)):
        await running.signal(Campaign.decide, Decision(first[prompt], approved))
    second = await waiting_for(running, "a fox that changes")
    assert second["a fox that changes"] != first["a fox that changes"]
    done = await approve_all(running, "a fox that changes")
    [tweaked] = service.jobs("a fox that changes, in the snow")
    assert tweaked.request.source is not None
    assert tweaked.request.source.parent == first["a fox that changes"]
    [stayed] = service.jobs("a fox that stays")
    published(done.files, [stayed, tweaked])
    assert done.refused == ["a bomb of the campaign"]
    drawn_once(service, *prompts)
    assert len(service.jobs("a bomb of the campaign")) == 1
    assert service.charged() == before + 4


async def test_a_killed_worker_costs_no_picture(
    temporal: TemporalServer, service: Service, workers: Workers, folder: Path
) -> None:
    before, prompts = service.charged(), ("an owl of the kill", "a hare of the kill")
    with service.held() as pace:
        running = await campaign(
            temporal, workers.queue, folder, *prompts, heartbeat_seconds=SOON_SECONDS
        )
        await until(lambda: len(service.jobs(*prompts)) == 2, "both are accepted")
        pace.step(3)
        await until(lambda: any(passes_done(service, *prompts)), "one is being drawn")
        workers.kill()
        workers.start()
    done = await approve_all(running, *prompts)
    published(done.files, drawn_once(service, *prompts))
    assert service.charged() == before + 2


async def test_a_killed_server_costs_no_picture(
    temporal: TemporalServer, service: Service, workers: Workers, folder: Path
) -> None:
    before, prompts = service.charged(), ("an owl of the server", "a hare of the server")
    with service.held() as pace:
        running = await campaign(
            temporal, workers.queue, folder, *prompts, heartbeat_seconds=SOON_SECONDS
        )
        await until(lambda: len(service.jobs(*prompts)) == 2, "both are accepted")
        pace.step(3)
        await until(lambda: any(passes_done(service, *prompts)), "one is being drawn")
        temporal.stop()
    jobs = service.jobs(*prompts)
    await until(
        lambda: all(job.ended for job in service.jobs(*prompts)), "they are drawn meanwhile"
    )
    temporal.start()
    done = await approve_all(running, *prompts)
    assert {job.id for job in jobs} == {job.id for job in service.jobs(*prompts)}
    published(done.files, drawn_once(service, *prompts))
    assert service.charged() == before + 2


async def test_a_cancelled_campaign_cancels_its_renders(
    temporal: TemporalServer, service: Service, workers: Workers, folder: Path
) -> None:
    prompts = "an owl to cancel", "a hare to cancel"
    with service.held() as pace:
        running = await campaign(temporal, workers.queue, folder, *prompts)
        await until(lambda: len(service.jobs(*prompts)) == 2, "both are accepted")
        pace.step(3)
        await until(lambda: any(passes_done(service, *prompts)), "one is being drawn")
        await running.cancel()
        with pytest.raises(WorkflowFailureError) as failed:
            await running.result()
        assert isinstance(failed.value.cause, CancelledError)
        assert all(job.cancel_requested for job in service.jobs(*prompts))
        await until(lambda: all(job.ended for job in service.jobs(*prompts)), "both are given up")
    assert [job.state for job in service.jobs(*prompts)] == [JobState.CANCELLED] * 2


async def test_a_terminated_campaign_leaves_nothing_to_draw(
    temporal: TemporalServer, service: Service, workers: Workers, folder: Path
) -> None:
    prompt = "an owl to terminate"
    with service.held() as pace:
        running = await campaign(temporal, workers.queue, folder, prompt)
        await until(lambda: service.jobs(prompt), "it is accepted")
        pace.step(3)
        await until(lambda: any(passes_done(service, prompt)), "it is being drawn")
        await running.terminate()
        await until(lambda: service.jobs(prompt)[0].ended, "it is cancelled")
    assert [job.state for job in service.jobs(prompt)] == [JobState.CANCELLED]
