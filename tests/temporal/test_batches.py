"""The batch activity at a real gateway, read by the official client: once, whatever comes twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.stages.tools import modules

modules("temporalio")

from jobs.job import JobState
from meltproof_temporal import Batch, Generate
from tests.stages.ledger_kit import wait_until
from tests.temporal.attempts import Attempt
from tests.temporal.conftest import KEY, Service


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def batch_of(*prompts: str, **more: Any) -> Batch:
    orders = [Generate(prompt=prompt, seed=1) for prompt in prompts]
    return Batch(orders=orders, poll_seconds=0.05, **more)


def rows(client: openai.OpenAI, file: str | None) -> dict[str, Any]:
    assert file is not None
    found = [json.loads(row) for row in client.files.content(file).text.splitlines()]
    return {row["custom_id"]: row for row in found}


async def test_a_batch_is_drawn_once_and_its_results_are_files(
    service: Service, client: openai.OpenAI
) -> None:
    prompts = "a newt in a batch", "a toad in a batch"
    batch = batch_of(*prompts, "a bomb in a batch", metadata={"who": "ada"})
    first = Attempt(service)
    done = await first.of(batch)
    assert (done.status, done.completed, done.failed) == ("completed", 2, 1)
    assert first.beats[-1].batch_id == done.batch_id
    assert first.beats[-1].total == 3
    drawn = await asyncio.to_thread(rows, client, done.output_file_id)
    refused = await asyncio.to_thread(rows, client, done.error_file_id)
    assert drawn.keys() == {"0", "1"}
    assert refused["2"]["response"]["body"]["error"]["code"] == "moderation_blocked"
    # The worker was killed before a heartbeat; then the workflow ran again.
    files = await asyncio.to_thread(lambda: len(client.files.list(limit=1000).data))
    assert await Attempt(service, attempt=2).of(batch) == done
    assert await Attempt(service, attempt=1, workflow_run_id="another").of(batch) == done
    known = [{"batch_id": done.batch_id}]
    assert await Attempt(service, attempt=3, heartbeat_details=known).of(batch) == done
    assert await asyncio.to_thread(lambda: len(client.files.list(limit=1000).data)) == files
    assert sorted(job.request.prompt for job in service.jobs(*prompts)) == sorted(prompts)


async def test_a_cancelled_batch_draws_nothing_more(
    service: Service, client: openai.OpenAI
) -> None:
    attempt, prompt = Attempt(service), "a newt to cancel"
    with service.held():
        drawing = asyncio.create_task(attempt.of(batch_of(prompt)))
        await asyncio.to_thread(
            wait_until, lambda: service.jobs(prompt) and attempt.beats, "its line is a job"
        )
        attempt.environment.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        await asyncio.to_thread(
            wait_until, lambda: service.jobs(prompt)[0].ended, "the job is cancelled"
        )
    assert service.jobs(prompt)[0].state is JobState.CANCELLED
    found = await asyncio.to_thread(client.batches.retrieve, attempt.beats[0].batch_id)
    assert found.status in {"cancelling", "cancelled"}


async def test_a_batch_that_would_be_refused_again_is_not_tried_again(service: Service) -> None:
    for batch, code in (
        (Batch(input_file_id=f"file-{'0' * 32}"), "file_not_found"),
        (Batch(), "invalid_value"),
        (batch_of("a newt", input_file_id="file-1"), "invalid_value"),
        (batch_of("a newt", metadata={"temporal": "x"}), "invalid_value"),
        (batch_of("a newt", endpoint="/v1/images/edits"), "batch_failed"),
    ):
        failure = await Attempt(service).failed(batch)
        assert (failure.type, failure.non_retryable) == (code, True)
