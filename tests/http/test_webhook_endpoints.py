"""Webhook endpoints over HTTP: the unmodified SDK makes, changes, tests and deletes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.resources.webhooks.webhooks import Webhooks

from jobs.webhooks import EVENT_TYPES, DeliveryState
from serve_app.gateway import adopt
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.webhook_receiver import NETWORKS, Receiver, receiver

WEBHOOKS = {**NETWORKS, "endpoints": 3}
URL = "https://example.com/hook"
TYPES: Any = ["response.completed", "image.generation.completed"]
AT = "/v1/webhook_endpoints"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("endpoints"), config(webhooks=WEBHOOKS)) as running:
        yield running


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def hooks(client: openai.OpenAI) -> Iterator[Webhooks]:
    yield client.webhooks
    for one in client.webhooks.list():
        client.webhooks.delete(one.id)


def test_an_endpoint_is_made_changed_and_deleted(hooks: Webhooks) -> None:
    made = hooks.create(name="ours", url=URL, event_types=TYPES)
    assert (made.object, made.name, made.url) == ("webhook_endpoint", "ours", URL)
    assert sorted(made.event_types) == sorted(TYPES)
    assert made.signing_secret.startswith("whsec_")
    shown = hooks.retrieve(made.id)
    assert shown.to_dict() == {k: v for k, v in made.to_dict().items() if k != "signing_secret"}
    assert made.signing_secret not in str(shown.to_dict())
    assert shown.signing_secret_hint == f"whsec_...{made.signing_secret[-4:]}"
    assert hooks.update(made.id).to_dict() == shown.to_dict()
    changed = hooks.update(made.id, name="other", event_types=["batch.failed"])
    assert (changed.name, changed.url, changed.event_types) == ("other", URL, ["batch.failed"])
    rotated = hooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    gone = hooks.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "webhook_endpoint.deleted")
    for ask in (hooks.retrieve, hooks.update, hooks.delete, hooks.rotate_secret):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(made.id)
        assert refused.value.code == "webhook_endpoint_not_found"


def test_endpoints_are_listed_page_by_page_and_bounded(hooks: Webhooks) -> None:
    made = [hooks.create(name=f"{n}", url=URL, event_types=TYPES).id for n in range(3)]
    assert sorted(one.id for one in hooks.list(limit=2)) == sorted(made), "all pages"
    page = hooks.list(limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    with pytest.raises(openai.BadRequestError) as refused:
        hooks.create(name="more", url=URL, event_types=TYPES)
    assert refused.value.code == "too_many_webhook_endpoints"
    assert hooks.event_types.list().data == [*EVENT_TYPES]


def test_another_tenants_endpoint_does_not_exist(hooks: Webhooks, shared: Stage) -> None:
    made = hooks.create(name="ours", url=URL, event_types=TYPES)
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-other", max_retries=0) as other:
        assert other.webhooks.list().data == []
        assert other.webhooks.list(after=made.id).data == []
        for ask in (other.webhooks.retrieve, other.webhooks.delete, other.webhooks.rotate_secret):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
    key = {"authorization": "Bearer sk-other"}
    at = f"{shared.url}{AT}/{made.id}"
    sample = {"event_type": TYPES[0]}
    assert httpx.get(f"{at}/deliveries", headers=key).status_code == 404
    assert httpx.post(f"{at}/redeliver", headers=key).status_code == 404
    assert httpx.post(f"{at}/test", headers=key, json=sample).status_code == 404
    assert hooks.retrieve(made.id).name == "ours"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:secret@example.com"}, "url"),
        ({"url": "https://[::1]/"}, "url"),
        ({"url": "https://999.1.1.1/"}, "url"),
        ({"url": "https://example.com:70000/"}, "url"),
        ({"url": "https://example.com/\n"}, "url"),
        ({"url": f"https://example.com/{'a' * 2048}"}, "url"),
        ({"url": 7}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["eval.run.failed"]}, "event_types[0]"),
        ({"name": ""}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"color": "red"}, "color"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, change: dict[str, object], param: str) -> None:
    body = {"name": "ours", "url": URL, "event_types": TYPES, **change}
    answer = http.post(AT, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("url", ["http://example.com", "https://10.0.0.1/", "https://a.b:8443/"])
def test_without_networks_of_our_own_only_https_by_name_is_taken(
    shared: Stage, http: httpx.Client, url: str
) -> None:
    adopt(shared.app, config(webhooks={}))
    answer = http.post(AT, json={"name": "ours", "url": url, "event_types": TYPES})
    adopt(shared.app, config(webhooks=WEBHOOKS))
    assert answer.status_code == 400
    assert "https" in answer.json()["error"]["message"]


def test_a_sample_is_sent_and_verified(hooks: Webhooks, there: Receiver, shared: Stage) -> None:
    made = hooks.create(name="ours", url=f"{there.url}/hook", event_types=TYPES)
    there.answer = lambda _: 418
    tried = hooks.test(made.id, event_type="response.completed")
    assert (tried.status_code, tried.webhook_endpoint_id) == (418, made.id)
    (sample,) = there.received
    assert sample.event(made.signing_secret)["type"] == "response.completed"
    away = hooks.update(made.id, url="http://127.0.0.1:1/")
    with pytest.raises(openai.BadRequestError) as refused:
        hooks.test(away.id, event_type="response.completed")
    assert refused.value.code == "webhook_unreachable"
    assert shared.ledger.deliveries("local", made.id, None, 10) == []


def test_a_background_response_is_told_as_one(
    hooks: Webhooks, client: openai.OpenAI, there: Receiver
) -> None:
    made = hooks.create(name="ours", url=there.url, event_types=TYPES)
    response = client.responses.create(
        model="test-model", input="a red fox", background=True, tools=[{"type": "image_generation"}]
    )
    wait_until(lambda: there.received, "it is told")
    event = there.received[0].event(made.signing_secret)
    assert (event["type"], event["data"]) == ("response.completed", {"id": response.id})


def test_deliveries_are_listed_and_made_again(
    hooks: Webhooks, client: openai.OpenAI, http: httpx.Client, there: Receiver,
    shared: Stage,
) -> None:  # fmt: skip
    there.answer = lambda _: 410
    made = hooks.create(name="ours", url=there.url, event_types=TYPES)
    at = f"{AT}/{made.id}"

    def listed(state: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = http.get(f"{at}/deliveries?state={state}").json()["data"]
        return found

    client.images.generate(prompt="a red fox")
    wait_until(lambda: not http.get(at).json()["enabled"], "it is disabled")
    assert http.get(at).json()["disabled_reason"] == "it answered 410 Gone"
    (one,) = listed("waiting")
    assert (one["error"], one["status_code"], one["attempts"]) == ("it answered 410", 410, 1)
    assert one["next_attempt_at"] >= one["created_at"]

    there.answer = lambda _: 200
    assert http.post(at, json={"enabled": True}).json()["enabled"]
    again = http.post(f"{at}/redeliver", json={"event_id": one["id"]})
    assert again.json()["deliveries"] == 1
    wait_until(lambda: listed("delivered"), "it is made again")
    assert there.received[0].body == there.received[1].body
    assert http.post(f"{at}/redeliver").json()["deliveries"] == 0, "nothing is given up"
    unknown = http.post(f"{at}/redeliver", json={"event_id": f"evt_{'0' * 32}"})
    assert unknown.json()["error"]["code"] == "webhook_delivery_not_found"
    for wrong in ("state=gone", "after=evt_1", "limit=0"):
        answer = http.get(f"{at}/deliveries?{wrong}")
        assert answer.json()["error"]["param"] == wrong.partition("=")[0]
    assert http.get(f"{at}/deliveries?after={one['id']}").json()["data"] == []
    assert listed(DeliveryState.DEAD) == []
