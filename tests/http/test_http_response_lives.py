"""Responses by id: in the background, cancelled, deleted, after a restart, and what was said."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from jobs.blobs.erasing import erase_tenant
from jobs.blobs.store import BlobMissing
from jobs.retention import Retention, Step
from tests.stages.http_stage import Stage, config, drawn, left_alone, newest, stage
from tests.stages.ledger_kit import wait_until

TOOL: dict[str, Any] = {"type": "image_generation", "size": "64x64"}
OTHER = {"authorization": "Bearer sk-other"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("lives"), config()) as running:
        yield running


def asked(client: openai.OpenAI, said: Any, **more: Any) -> Response:
    create: Any = client.responses.create
    made: Response = create(input=said, tools=[TOOL], **more)
    return made


def polled(client: openai.OpenAI, response: Response) -> Response:
    """Once it is over."""
    found = [response]

    def over() -> bool:
        found[0] = client.responses.retrieve(response.id)
        return found[0].status not in ("queued", "in_progress")

    wait_until(over, "the response is over")
    return found[0]


def result(response: Response) -> str | None:
    [item] = response.output
    found: str | None = item.to_dict()["result"]  # type: ignore[assignment]
    return found


def test_a_background_response_is_asked_for_until_it_is_over(
    client: openai.OpenAI, shared: Stage
) -> None:
    shared.worker.pause()
    response = asked(client, "a fox", background=True)
    assert (response.status, response.output, response.background) == ("queued", [], True)
    job = newest(shared)
    assert job.watched_until is None
    assert job.request.response is not None
    assert job.request.response.background
    assert client.responses.retrieve(response.id).status == "queued"
    shared.worker.resume()
    over = polled(client, response)
    assert over.status == "completed"
    assert result(over) == base64.b64encode(drawn(job, 0)).decode()


def test_a_background_response_goes_on_from_another(client: openai.OpenAI) -> None:
    first = polled(client, asked(client, "a red apple", background=True))
    second = asked(client, "make it blue", background=True, previous_response_id=first.id)
    [item] = polled(client, second).output
    assert item.to_dict()["revised_prompt"] == "a red apple, make it blue"


def test_what_is_not_over_is_nothing_to_go_on_from(client: openai.OpenAI, shared: Stage) -> None:
    shared.worker.pause()
    response = asked(client, "a fox", background=True)
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, "bluer", previous_response_id=response.id)
    assert refused.value.param == "previous_response_id"
    assert "no picture yet" in refused.value.message
    shared.worker.resume()
    polled(client, response)


def test_a_waiting_response_is_cancelled_at_once(client: openai.OpenAI, shared: Stage) -> None:
    shared.worker.pause()
    response = asked(client, "a fox", background=True)
    cancelled = client.responses.cancel(response.id)
    assert (cancelled.status, cancelled.output, cancelled.error) == ("cancelled", [], None)
    shared.worker.resume()
    assert client.responses.cancel(response.id) == cancelled, "as often as one likes"
    assert client.responses.retrieve(response.id).status == "cancelled"
    events = list(client.responses.retrieve(response.id, stream=True))
    assert [event.type for event in events] == [
        "response.created", "response.queued", "response.failed",
    ]  # fmt: skip


def test_a_response_that_is_drawn_is_cancelled_when_it_has_left_its_slot(
    client: openai.OpenAI, shared: Stage
) -> None:
    create: Any = client.responses.create
    tools = [TOOL | {"partial_images": 2}]
    response = create(input="stepwise", tools=tools, background=True)
    job = newest(shared)
    wait_until(lambda: newest(shared).state == "leased", "it is held")
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(client.responses.cancel, response.id)
        wait_until(lambda: newest(shared).cancel_requested, "it is asked for")
        shared.worker.steps.release(3)
        assert cancelling.result(60).status == "cancelled"
    assert newest(shared).id == job.id


def test_what_is_over_stays_as_it_is(client: openai.OpenAI) -> None:
    over = polled(client, asked(client, "a fox", background=True))
    assert client.responses.cancel(over.id) == over


def test_a_response_that_is_waited_for_is_cancelled_by_hanging_up(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    response = asked(client, "a fox")
    answer = http.post(f"/v1/responses/{response.id}/cancel")
    assert answer.status_code == 400
    assert "background" in answer.json()["error"]["message"]
    shared.worker.pause()
    body = b'{"input": "a hare", "tools": [{"type": "image_generation"}]}'
    job = left_alone(shared, body, "/v1/responses", "application/json")
    assert job.watched_until is not None
    shared.worker.resume()


def test_a_deleted_response_leaves_nothing(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    first = asked(client, "a red apple")
    second = asked(client, "make it blue", previous_response_id=first.id)
    job = newest(shared)
    assert job.request.source is not None
    client.responses.delete(second.id)
    assert shared.ledger.get(job.id) is None
    assert job.renders[0].blob is not None
    with pytest.raises(BlobMissing):
        shared.blobs.get(job.renders[0].blob)
    for answer in (
        http.get(f"/v1/responses/{second.id}"),
        http.get(f"/v1/responses/{second.id}/input_items"),
        http.delete(f"/v1/responses/{second.id}"),
        http.get(f"/v1/jobs/{job.id}"),
        http.get(f"/v1/images/img_{job.id}_0"),
    ):
        assert answer.status_code == 404
    assert client.responses.retrieve(first.id).status == "completed"
    third = asked(client, "add a leaf", previous_response_id=first.id)
    client.responses.delete(first.id)
    assert result(client.responses.retrieve(third.id)), "what went on from it stays"


def test_a_response_that_waits_is_cancelled_and_deleted(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    shared.worker.pause()
    response = asked(client, "a fox", background=True)
    deleted = http.delete(f"/v1/responses/{response.id}").json()
    assert deleted == {"id": response.id, "object": "response", "deleted": True}
    shared.worker.resume()
    assert http.get(f"/v1/responses/{response.id}").status_code == 404


def test_responses_of_others_do_not_exist(client: openai.OpenAI, http: httpx.Client) -> None:
    response = asked(client, "a fox", background=True)
    path = f"/v1/responses/{response.id}"
    body = {"input": "x", "tools": [TOOL], "previous_response_id": response.id}
    answers = [
        http.get(path, headers=OTHER),
        http.get(f"{path}?stream=true", headers=OTHER),
        http.get(f"{path}/input_items", headers=OTHER),
        http.post(f"{path}/cancel", headers=OTHER),
        http.delete(path, headers=OTHER),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert http.post("/v1/responses", json=body, headers=OTHER).status_code == 400
    assert polled(client, response).status == "completed"


def test_what_was_said_is_listed(client: openai.OpenAI, http: httpx.Client) -> None:
    first = asked(client, "a red apple")
    call: Any = first.output[0].to_dict()
    said: Any = [
        call,
        {"role": "user", "content": "make it blue"},
        {"role": "assistant", "content": "It is blue."},
        {"role": "user", "content": [
            {"type": "input_text", "text": "bluer"},
            {"type": "input_image", "image_url": "https://localhost/a.png", "file_id": None},
        ]},
    ]  # fmt: skip
    [plain] = client.responses.input_items.list(first.id).data
    assert plain.to_dict()["content"] == [{"type": "input_text", "text": "a red apple"}]
    with pytest.raises(openai.BadRequestError):
        asked(client, said)  # no picture is fetched from this machine itself
    second = asked(client, said[:3])
    items = client.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.type for item in items.data] == ["image_generation_call", "message"]
    assert items.data[0].to_dict()["id"] == call["id"]
    assert items.has_more
    everything = list(items)
    assert [item.to_dict().get("role") for item in everything] == [None, "user", "assistant"]
    newest_first = list(client.responses.input_items.list(second.id))
    assert newest_first == everything[::-1]
    for query, param in (("limit=0", "limit"), ("order=up", "order"), ("after=x", "after")):
        answer = http.get(f"/v1/responses/{second.id}/input_items?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_response_outlives_its_gateway(tmp_path: Path) -> None:
    def sdk(running: Stage) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{running.url}/v1", api_key="sk-local", max_retries=0)

    with stage(tmp_path, config()) as running, sdk(running) as client:
        done = asked(client, "a red apple", metadata={"a": "b"})
        running.worker.pause()
        waiting = asked(client, "make it blue", background=True, previous_response_id=done.id)
    with stage(tmp_path, config()) as running, sdk(running) as client:
        assert client.responses.retrieve(done.id) == done
        over = polled(client, waiting)
        assert over.status == "completed"
        third = asked(client, "add a leaf", previous_response_id=over.id)
        assert third.status == "completed"


def test_it_is_forgotten_with_its_job(tmp_path: Path) -> None:
    at_once = Retention(rows_seconds=0, images_seconds=0, previews_seconds=0, verdicts_seconds=0)
    with stage(tmp_path, config()) as running:
        url = f"{running.url}/v1"
        with openai.OpenAI(base_url=url, api_key="sk-local", max_retries=0) as client:
            for forget in (_retire, _erase):
                response = asked(client, "a red apple")
                assert client.responses.retrieve(response.id)
                forget(running, at_once)
                if forget is _retire:
                    with pytest.raises(openai.NotFoundError):
                        client.responses.retrieve(response.id)
        assert running.jobs() == []


def _retire(running: Stage, kept: Retention) -> None:
    for step in Step:
        while batch := running.ledger.retire("default", step, kept):
            running.ledger.retired("default", batch)


def _erase(running: Stage, _: Retention) -> None:
    erase_tenant(running.ledger, [running.blobs], "local")
