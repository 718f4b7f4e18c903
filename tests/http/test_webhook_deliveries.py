"""Webhooks from an order to its receiver, and every way in which a receiver can be wrong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import openai
import pytest

from jobs.webhooks import (
    EVENT_TYPES,
    Delivery,
    DeliveryState,
    EndpointChange,
    WebhookEndpoint,
    new_endpoint,
    new_secret,
    sample_event,
)
from serve_app.gateway import adopt
from tests.conformance.clients import NodeSdk
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.metrics_kit import samples
from tests.stages.webhook_receiver import NETWORKS, Received, Receiver, receiver

WEBHOOKS = {**NETWORKS, "concurrent": 6, "seconds": 30.0}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("webhooks"), config(webhooks=WEBHOOKS)) as running:
        yield running


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def endpoint(shared: Stage, there: Receiver) -> Iterator[WebhookEndpoint]:
    """One of the tenant `local`."""
    made = add(shared, there)
    yield made
    shared.ledger.drop_endpoint("local", made.id)


def add(shared: Stage, there: Receiver, path: str = "/hook") -> WebhookEndpoint:
    return shared.ledger.add_endpoint(
        new_endpoint("local", "ours", f"{there.url}{path}", EVENT_TYPES), 100
    )


def states(shared: Stage, endpoint: WebhookEndpoint) -> Counter[DeliveryState]:
    found = shared.ledger.deliveries("local", endpoint.id, None, 100)
    return Counter(one.state for one in found)


def told(shared: Stage, endpoint: WebhookEndpoint) -> Delivery:
    """The only one."""
    (one,) = shared.ledger.deliveries("local", endpoint.id, None, 10)
    return one


def send(shared: Stage, endpoint: WebhookEndpoint) -> None:
    shared.ledger.queue_event(endpoint, sample_event("local", "image.generation.completed"))


def test_the_end_of_an_order_is_told_and_verified_by_the_sdk(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint, client: openai.OpenAI
) -> None:
    client.images.generate(prompt="a red fox")
    with pytest.raises(openai.APIStatusError):
        client.images.generate(prompt="a broken fox")
    wait_until(lambda: states(shared, endpoint)[DeliveryState.DELIVERED] == 2, "both are there")
    ids = {job.id for job in shared.jobs()[:2]}
    events = [one.event(endpoint.secret) for one in there.received]
    assert {event["type"] for event in events} == {
        "image.generation.completed",
        "image.generation.failed",
    }
    assert {event["data"]["id"] for event in events} == ids  # type: ignore[index]
    for one, event in zip(there.received, events, strict=True):
        assert (event["object"], event["id"]) == ("event", one.id)
        assert event.keys() == {"id", "object", "type", "created_at", "data"}
        assert one.headers["content-type"] == "application/json"
        assert one.headers["user-agent"] == "meltproof"
        with pytest.raises(openai.InvalidWebhookSignatureError):
            one.event(new_secret())


def test_the_node_sdk_verifies_it_too(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint
) -> None:
    if missing := NodeSdk.missing():
        pytest.skip(missing)
    send(shared, endpoint)
    wait_until(lambda: there.received, "it is there")
    one = there.received[0]
    with NodeSdk(f"{shared.url}/v1", "sk-local") as node:
        fields = {"body": one.body.decode(), "sent": one.headers}
        read = node.call("webhooks.unwrap", **fields, secret=endpoint.secret)
        assert read.body == one.event(endpoint.secret)
        with pytest.raises(RuntimeError, match="ended"):
            node.call("webhooks.unwrap", **fields, secret=new_secret())


@pytest.mark.parametrize(
    ("status", "error"),
    [(503, "it answered 503"), (307, "it answered 307, and redirects are not followed")],
)
def test_a_delivery_is_made_again_under_the_same_id(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint, status: int, error: str
) -> None:
    there.answer = lambda _: status
    send(shared, endpoint)
    wait_until(lambda: told(shared, endpoint).error, "it has failed")
    failed = told(shared, endpoint)
    assert (failed.error, failed.status_code, failed.state) == (error, status, "waiting")
    there.answer = lambda _: 204
    shared.ledger.redeliver("local", endpoint.id, failed.event)
    wait_until(lambda: told(shared, endpoint).state == DeliveryState.DELIVERED, "it is made")
    assert told(shared, endpoint).error is None
    assert [(one.path, one.id) for one in there.received] == [("/hook", failed.event)] * 2


def test_a_secret_that_was_replaced_signs_beside_the_new_one(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint
) -> None:
    change = EndpointChange(secret=new_secret(), keep_old_secret=True)
    after = shared.ledger.change_endpoint("local", endpoint.id, change)
    assert after is not None
    send(shared, endpoint)
    wait_until(lambda: there.received, "it is there")
    assert there.received[0].event(endpoint.secret) == there.received[0].event(after.secret)


def test_an_endpoint_that_answers_410_is_disabled(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint
) -> None:
    there.answer = lambda _: 410
    send(shared, endpoint)

    def disabled() -> bool:
        now = shared.ledger.endpoint("local", endpoint.id)
        return now is not None and now.disabled_at is not None

    wait_until(disabled, "it is disabled")


def test_endpoints_that_hang_delay_no_others(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint
) -> None:
    let_go = threading.Event()

    def answer(one: Received) -> int:
        if one.path == "/slow":
            let_go.wait(60.0)
        return 200

    there.answer = answer
    slow = add(shared, there, "/slow")
    try:
        for _ in range(8):
            send(shared, slow)
        wait_until(lambda: len(there.received) == 4, "it has as many as one endpoint may have")
        for _ in range(8):
            send(shared, endpoint)
        wait_until(lambda: states(shared, endpoint)[DeliveryState.DELIVERED] == 8, "others are")
        assert Counter(one.path for one in there.received) == {"/slow": 4, "/hook": 8}
        let_go.set()
        wait_until(lambda: states(shared, slow)[DeliveryState.DELIVERED] == 8, "they go on")
    finally:
        let_go.set()
        shared.ledger.drop_endpoint("local", slow.id)


def test_a_private_address_is_not_asked(
    shared: Stage, there: Receiver, endpoint: WebhookEndpoint
) -> None:
    adopt(shared.app, config(webhooks={"networks": ["10.0.0.0/8"]}))
    try:
        send(shared, endpoint)
        wait_until(lambda: told(shared, endpoint).error, "it is tried")
    finally:
        adopt(shared.app, config(webhooks=WEBHOOKS))
    assert told(shared, endpoint).error == "its host has an address that is not public"
    assert there.received == []


def test_tries_are_counted(shared: Stage, there: Receiver, endpoint: WebhookEndpoint) -> None:
    def count() -> float:
        return (
            samples(shared.metrics)("meltproof_webhook_deliveries_total", outcome="delivered") or 0
        )

    before = count()
    send(shared, endpoint)
    wait_until(lambda: count() == before + 1, "it is counted")
    assert samples(shared.metrics)("meltproof_webhook_overdue_seconds") is not None
