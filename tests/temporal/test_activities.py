"""Each activity by itself at a real gateway: what it finds again, what it reports, how it fails."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import timedelta

import httpx
import openai
import pytest
from PIL import Image

from tests.stages.tools import modules

modules("temporalio")

from temporalio import activity

from jobs.job import JobState
from meltproof_temporal import Edit, Generate, Tweak
from meltproof_temporal.failures import UNREACHABLE
from tests.stages.ledger_kit import wait_until
from tests.temporal.attempts import Attempt
from tests.temporal.conftest import KEY, Service


async def until(met: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, met, what)


async def test_another_attempt_finds_the_job_of_the_first_one(service: Service) -> None:
    order = Generate(prompt="a mole found again", n=2)
    first = await Attempt(service, workflow_run_id="one", attempt=1).of(order)
    assert await Attempt(service, workflow_run_id="two", attempt=2).of(order) == first
    [job] = service.jobs("a mole found again")
    assert first.job_id == job.id
    assert [picture.id for picture in first.drawn] == [f"img_{job.id}_0", f"img_{job.id}_1"]
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        for picture in first.drawn:
            answer = await http.get(picture.url)
            assert answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize("name", ["namespace", "workflow_id", "activity_id"])
async def test_another_activity_draws_another_picture(service: Service, name: str) -> None:
    order = Generate(prompt=f"a mole of its own {name}", seed=1)
    await Attempt(service).of(order)
    await Attempt(service, **{name: "another"}).of(order)
    assert len(service.jobs(order.prompt)) == 2


async def test_other_words_under_one_name_are_another_picture(service: Service) -> None:
    orders = [Generate(prompt=f"a mole in run {run}") for run in range(2)]
    one, two = [await Attempt(service).of(order) for order in orders]
    assert one.job_id != two.job_id


async def test_a_heartbeat_finds_the_job_when_keys_are_forgotten(service: Service) -> None:
    first = await Attempt(service, activity_id="kept").of(Generate(prompt="a mole by its job"))
    details = [{"job_id": first.job_id, "state": "running"}]
    later = Attempt(service, activity_id="as if its key were forgotten", heartbeat_details=details)
    assert await later.of(Generate(prompt="a mole by its job")) == first
    assert len(service.jobs("a mole by its job")) == 1


async def test_heartbeats_say_passes_and_name_previews(service: Service) -> None:
    attempt = Attempt(service)
    done = await attempt.of(Generate(prompt="a mole in passes", partial_images=2))
    assert {beat.job_id for beat in attempt.beats} == {done.job_id}
    last = attempt.beats[-1]
    [render] = service.jobs("a mole in passes")[0].renders
    assert (last.state, last.passes_done) == ("succeeded", last.passes_total)
    assert last.previews == [f"0.{pass_no}" for pass_no in sorted(render.previews)]
    assert len(last.previews) == 2


async def test_heartbeats_go_on_while_nothing_happens(service: Service) -> None:
    attempt = Attempt(service)
    with service.held():
        drawing = asyncio.create_task(attempt.of(Generate(prompt="a mole that waits")))
        await until(lambda: len(attempt.beats) > 20, "it goes on beating")
        assert attempt.beats[-1].passes_done == 0
    await drawing


async def test_a_cancelled_activity_cancels_its_job(service: Service) -> None:
    attempt = Attempt(service)
    with service.held():
        drawing = asyncio.create_task(attempt.of(Generate(prompt="a mole to cancel")))
        await until(lambda: attempt.beats, "it follows its job")
        attempt.environment.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        [job] = service.jobs("a mole to cancel")
        assert job.cancel_requested
        await until(lambda: service.jobs("a mole to cancel")[0].ended, "it is given up")
    assert service.jobs("a mole to cancel")[0].state is JobState.CANCELLED


async def test_an_activity_that_is_cancelled_at_any_moment_leaves_nothing_to_draw(
    service: Service,
) -> None:
    prompts = [f"a mole cancelled after {turns} turns" for turns in range(0, 60, 4)]
    with service.held():
        for turns, prompt in enumerate(prompts):
            attempt = Attempt(service)
            drawing = asyncio.create_task(attempt.of(Generate(prompt=prompt)))
            for _ in range(1 + 4 * turns):
                await asyncio.sleep(0.0005)
            attempt.environment.cancel()
            with pytest.raises(asyncio.CancelledError):
                await drawing
        await until(lambda: all(job.ended for job in service.jobs(*prompts)), "all are given up")
    jobs = service.jobs(*prompts)
    assert {job.state for job in jobs} == {JobState.CANCELLED}


@pytest.mark.parametrize("why", ["worker_shutdown", "timed_out", "paused", "reset"])
async def test_a_job_outlives_an_attempt_that_will_be_made_again(
    service: Service, why: str
) -> None:
    order, attempt = Generate(prompt=f"a mole that stays: {why}"), Attempt(service)
    with service.held():
        drawing = asyncio.create_task(attempt.of(order))
        await until(lambda: attempt.beats, "it follows its job")
        attempt.environment.cancel(activity.ActivityCancellationDetails(**{why: True}))
        with pytest.raises(asyncio.CancelledError):
            await drawing
    again = await Attempt(service, attempt=2).of(order)
    [job] = service.jobs(order.prompt)
    assert (again.job_id, job.state) == (job.id, JobState.SUCCEEDED)


async def test_a_gateway_that_goes_while_a_job_is_followed_costs_no_attempt(
    service: Service,
) -> None:
    attempt = Attempt(service)
    with service.held():
        drawing = asyncio.create_task(attempt.of(Generate(prompt="a mole with two gateways")))
        await until(lambda: attempt.beats, "it follows its job")
        await asyncio.to_thread(service.pipeline.drop_connections)
    done = await drawing
    assert [job.id for job in service.jobs("a mole with two gateways")] == [done.job_id]


async def test_a_gateway_that_is_away_is_tried_again(service: Service) -> None:
    await asyncio.to_thread(service.pipeline.away, True)
    try:
        failure = await Attempt(service).failed(Generate(prompt="a mole without a gateway"))
    finally:
        await asyncio.to_thread(service.pipeline.away, False)
    assert (failure.type, failure.non_retryable) == (UNREACHABLE, False)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (Generate(prompt="a bomb alone"), "moderation_blocked"),
        (Generate(prompt="a mole", size="5x5"), "invalid_value"),
        (Generate(prompt="a mole", model="none-such"), "model_not_found"),
        (Generate(prompt="a mole", more={"nonsense": 1}), "unknown_parameter"),
        (Edit(prompt="a mole", images=["file-none"]), "file_not_found"),
        (Edit(prompt="a mole", images=["data:image/png;base64,AAAA"]), "invalid_value"),
        (Edit(prompt="a mole", images=["img_x"], mask="data:,x"), "invalid_value"),
        (Tweak(picture="img_none_0"), "image_not_found"),
        (Tweak(picture="../../jobs"), "invalid_value"),
        (Tweak(picture="img_x", mask="data:,x"), "invalid_value"),
    ],
)
async def test_what_would_fail_again_is_not_tried_again(
    service: Service, order: Generate | Edit | Tweak, code: str
) -> None:
    failure = await Attempt(service).failed(order)
    assert (failure.type, failure.non_retryable) == (code, True)
    assert failure.next_retry_delay is None


async def test_a_wrong_key_is_not_tried_again(service: Service) -> None:
    failure = await Attempt(service, key="sk-wrong").failed(Generate(prompt="a mole"))
    assert (failure.type, failure.non_retryable) == ("invalid_api_key", True)


async def test_a_used_up_quota_is_tried_again_when_the_day_turns(service: Service) -> None:
    orders = [Generate(prompt=f"a poor mole {number}") for number in range(2)]
    await Attempt(service, key="sk-poor").of(orders[0])
    failure = await Attempt(service, key="sk-poor").failed(orders[1])
    assert (failure.type, failure.non_retryable) == ("insufficient_quota", False)
    assert failure.next_retry_delay is not None
    assert timedelta(0) < failure.next_retry_delay <= timedelta(days=1)


async def test_a_job_that_was_cancelled_elsewhere_is_not_drawn_again(service: Service) -> None:
    attempt, order = Attempt(service), Generate(prompt="a mole cancelled elsewhere")
    with service.held():
        drawing = asyncio.create_task(attempt.failed(order))
        await until(lambda: attempt.beats, "it follows its job")
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{service.url}/v1/jobs/{attempt.beats[0].job_id}"
        await asyncio.to_thread(httpx.delete, url, headers=headers)
        failure = await drawing
    assert (failure.type, failure.non_retryable) == ("job_cancelled", True)


async def test_an_edit_names_a_file_and_a_tweak_a_picture(service: Service) -> None:
    out = io.BytesIO()
    Image.new("RGB", (256, 256), (90, 160, 40)).save(out, "PNG")

    def upload() -> str:
        with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY) as client:
            return client.files.create(file=("leaf.png", out.getvalue()), purpose="vision").id

    file = await asyncio.to_thread(upload)
    edited = await Attempt(service).of(Edit(prompt="a mole on a leaf", images=[file], strength=0.5))
    tweaked = await Attempt(service).of(Tweak(picture=edited.drawn[0].id, delta="in the rain"))
    [job] = service.jobs("a mole on a leaf, in the rain")
    assert tweaked.job_id == job.id
    assert job.request.source is not None
    assert job.request.source.parent == edited.drawn[0].id
