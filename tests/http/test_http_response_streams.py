"""Responses as streams of events: official types, in order, numbered, and again from any number."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.stages.http_stage import Stage, config, drawn, newest, stage

TOOL: dict[str, Any] = {"type": "image_generation", "partial_images": 2, "size": "64x64"}
CALL = "response.image_generation_call"
BEGINNING = [
    "response.created", "response.in_progress", "response.output_item.added",
    f"{CALL}.in_progress", f"{CALL}.generating",
]  # fmt: skip
END = [f"{CALL}.completed", "response.output_item.done", "response.completed"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("streams"), config()) as running:
        yield running


def streamed(client: openai.OpenAI, said: str, **more: Any) -> Iterator[Any]:
    create: Any = client.responses.create
    events: Iterator[Any] = create(input=said, tools=[TOOL], stream=True, **more)
    return events


def types(events: list[Any]) -> list[str]:
    return [event.type for event in events]


def test_all_events_come_in_order_with_their_numbers(client: openai.OpenAI, shared: Stage) -> None:
    events = list(streamed(client, "a fox"))
    assert types(events) == [*BEGINNING, f"{CALL}.partial_image", f"{CALL}.partial_image", *END]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    job = newest(shared)
    created, added, preview, done, completed = (events[at] for at in (0, 2, 5, -2, -1))
    assert (created.response.status, created.response.output) == ("in_progress", [])
    assert (added.item.status, added.item.result) == ("in_progress", None)
    assert [event.partial_image_index for event in events[5:7]] == [0, 1]
    picture = base64.b64encode(drawn(job, 0)).decode()
    assert preview.partial_image_b64 == picture
    assert (preview.size, preview.item_id, preview.output_index) == ("64x64", f"ig_{job.id}", 0)
    assert done.item.result == picture
    assert completed.response.output[0].result == picture
    assert completed.response.status == "completed"
    assert client.responses.retrieve(completed.response.id) == completed.response


def test_the_helper_of_the_sdk_ends_with_the_whole_response(client: openai.OpenAI) -> None:
    tools: Any = [TOOL]
    with client.responses.stream(input="a fox", tools=tools, model="test-model") as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    assert response.status == "completed"
    assert response.output[0].to_dict()["result"]


def test_a_blocked_response_ends_as_failed(client: openai.OpenAI) -> None:
    events = list(streamed(client, "unsafe"))
    assert types(events) == [*BEGINNING[:4], "response.output_item.done", "response.failed"]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    done, failed = events[-2:]
    assert (done.item.status, done.item.error.code) == ("failed", "moderation_blocked")
    assert failed.response.error.code == "image_content_policy_violation"


def test_events_come_while_it_is_drawn(client: openai.OpenAI, shared: Stage) -> None:
    stream = streamed(client, "stepwise")
    first = [next(stream) for _ in range(4)]
    assert types(first) == BEGINNING[:4]
    response_id = first[0].response.id
    running = client.responses.retrieve(response_id)
    assert running.status == "in_progress"
    shared.worker.steps.release()
    assert types([next(stream), next(stream)]) == [BEGINNING[4], f"{CALL}.partial_image"]
    [item] = client.responses.retrieve(response_id).output
    assert item.to_dict()["status"] == "generating"
    shared.worker.steps.release(2)
    assert types(list(stream))[-3:] == END


def test_a_stream_can_be_taken_up_behind_any_event(client: openai.OpenAI) -> None:
    events = list(streamed(client, "a fox"))
    response_id = events[0].response.id
    for after in (None, 0, 4, 6, len(events) - 2, len(events) - 1, 1000):
        more: dict[str, Any] = {} if after is None else {"starting_after": after}
        again = list(client.responses.retrieve(response_id, stream=True, **more))
        assert again == events[0 if after is None else after + 1 :]


@pytest.mark.parametrize("query", ["starting_after=x", "stream=perhaps", "starting_after=-1"])
def test_a_query_that_makes_no_sense_is_named(
    client: openai.OpenAI, http: httpx.Client, query: str
) -> None:
    first: Any = next(streamed(client, "a fox"))
    response_id = first.response.id
    answer = http.get(f"/v1/responses/{response_id}?stream=true&{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


def test_a_background_response_streams_and_goes_on_without_its_client(
    client: openai.OpenAI, shared: Stage
) -> None:
    shared.worker.pause()
    stream = streamed(client, "stepwise", background=True)
    first = [next(stream), next(stream)]
    assert types(first) == ["response.created", "response.queued"]
    response_id = first[0].response.id
    stream.close()  # type: ignore[attr-defined]
    assert newest(shared).watched_until is None
    shared.worker.resume()
    shared.worker.steps.release(3)
    retrieve: Any = client.responses.retrieve
    rest = list(retrieve(response_id, stream=True, starting_after=1))
    assert types(rest) == [
        *BEGINNING[1:], f"{CALL}.partial_image", f"{CALL}.partial_image", *END
    ]  # fmt: skip
    assert [event.sequence_number for event in rest] == list(range(2, 11))
    assert rest[0].response.background


def test_without_a_stream_no_previews_are_drawn(client: openai.OpenAI, shared: Stage) -> None:
    create: Any = client.responses.create
    create(input="a fox", tools=[TOOL])
    assert newest(shared).request.partial_images == 0
