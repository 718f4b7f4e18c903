"""Webhooks: endpoints as OpenAI's SDKs manage them, and deliveries as the SDKs verify them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jobs.webhooks import EVENT_TYPES
from tests.conformance.clients import Client
from tests.conformance.row import ALL, Ask, Check, Does, Row, expect, fails, good, refuses
from tests.stages.ledger_kit import wait_until
from tests.stages.webhook_receiver import Received, Receiver, receiver

CREATE = Ask(
    "webhooks.create",
    {
        "name": "ours",
        "url": "https://example.com/webhooks",
        "event_types": ["response.completed", "batch.failed"],
    },
)
OTHERS = ("eval.run.succeeded", "fine_tuning.job.failed", "video.completed", "agent.session.idle",
          "realtime.call.incoming", "safety.alert.created")  # fmt: skip


@contextmanager
def _made(client: Client, **fields: Any) -> Iterator[Mapping[str, Any]]:
    """An endpoint that is there while the block runs."""
    endpoint = good(CREATE(client, **fields)).body
    try:
        yield endpoint
    finally:
        good(client.call("webhooks.delete", endpoint["id"]))


def _created(client: Client) -> None:
    with _made(client) as made:
        expect(made["object"], "webhook_endpoint", "object")
        expect(str(made["signing_secret"]).startswith("whsec_"), True, "a secret")
        shown = good(client.call("webhooks.retrieve", made["id"])).body
        expect({**shown, "signing_secret": made["signing_secret"]}, made, "shown without it")


def _listed(client: Client) -> None:
    with _made(client, name="first") as first, _made(client, name="second") as second:
        newest = good(client.call("webhooks.list", limit=1)).body["data"]
        following = good(client.call("webhooks.list", limit=1, after=newest[0]["id"])).body["data"]
        found = {one["id"] for one in (*newest, *following)}
        expect(found, {first["id"], second["id"]}, "both, a page each")


def _updated(client: Client) -> None:
    with _made(client) as made:
        said = {"name": "other", "event_types": ["batch.expired"]}
        after = good(client.call("webhooks.update", made["id"], **said)).body
        expect((after["name"], after["event_types"]), ("other", ["batch.expired"]), "changed")
        expect(after["url"], made["url"], "what was left out")


def _rotated(client: Client) -> None:
    with _made(client) as made:
        keep = {"keep_old_secret_active_for_24_hours": True}
        after = good(client.call("webhooks.rotate_secret", made["id"], **keep)).body
        expect(after["signing_secret"] != made["signing_secret"], True, "another secret")


def _deleted(client: Client) -> None:
    with _made(client) as made:
        pass
    for method in ("webhooks.retrieve", "webhooks.delete"):
        answer = client.call(method, made["id"])
        found = (answer.status, (answer.error or {}).get("code"))
        expect(found, (404, "webhook_endpoint_not_found"), method)


def _verified(client: Client, one: Received, secret: str) -> Mapping[str, Any]:
    """As that client's SDK reads it; over plain HTTP as Python's does."""
    if client.name != "node":
        return one.event(secret)
    sent = {"body": one.body.decode(), "sent": one.headers, "secret": secret}
    return good(client.call("webhooks.unwrap", **sent)).body


def _received(
    do: Callable[[Client, Mapping[str, Any], Receiver], Mapping[str, Any]],
) -> Check:
    """What `do` brings to a receiver is verified, and is what it returns."""

    def check(client: Client) -> None:
        with (
            receiver() as there,
            _made(client, url=f"{there.url}/hook", event_types=[*EVENT_TYPES]) as made,
        ):
            wanted = do(client, made, there)
            wait_until(lambda: there.received, "it is told")
            event = _verified(client, there.received[0], made["signing_secret"])
            expect({name: event[name] for name in wanted}, dict(wanted), "the event")
            expect((event["object"], event["id"]), ("event", there.received[0].id), "its id")

    return check


def _test(client: Client, made: Mapping[str, Any], there: Receiver) -> Mapping[str, Any]:
    there.answer = lambda _: 418
    said = good(client.call("webhooks.test", made["id"], event_type="batch.completed")).body
    expect((said["status_code"], said["object"]), (418, "webhook_endpoint.test"), "the answer")
    return {"type": "batch.completed"}


def _draw(client: Client, _: Mapping[str, Any], __: Receiver) -> Mapping[str, Any]:
    asked = {"prompt": "a red fox", "size": "64x64", "quality": "low"}
    good(client.call("images.generate", **asked))
    return {"type": "image.generation.completed"}


def _types(client: Client) -> None:
    said = good(client.call("GET /webhook_event_types")).body
    expect((said["object"], said["data"]), ("list", [*EVENT_TYPES]), "the types")


def _row(
    name: str, does: Does, note: str, check: Check, clients: tuple[str, ...] = ALL,
    values: tuple[str, ...] = (),
) -> Row:  # fmt: skip
    return Row("webhooks", "method", name, values, does, note, check, clients)


HONOURED, REFUSED = Does.HONOURED, Does.REFUSED
WEBHOOKS = [
    _row("create", HONOURED, "the secret is in this answer and in no other", _created),
    _row(
        "create",
        REFUSED,
        "400 that names it: events of what is not here",
        refuses(
            CREATE,
            "webhook_event_types",
            *({"event_types": [one]} for one in OTHERS),
            param="event_types[0]",
        ),
        values=OTHERS,
    ),
    _row(
        "create",
        REFUSED,
        "400: https, by name, without a port, where the operator has named no networks of its own",
        refuses(CREATE, "URL", {"url": "ftp://example.com"}, {"url": "https://a:b@example.com"}),
        values=("other URLs",),
    ),
    _row("retrieve", HONOURED, "with `enabled` and why not (ours)", _created),
    _row("list", HONOURED, "newest first, `limit` and `after`", _listed),
    _row("update", HONOURED, "and `enabled` (ours)", _updated),
    _row("delete", HONOURED, "with what waits for it", _deleted),
    _row("rotate_secret", HONOURED, "the old one may sign for another day", _rotated),
    _row("test", HONOURED, "a sample, now; what it answered", _received(_test)),
    _row("event_types.list", HONOURED, "those that are told here", _types, ("http",)),
    _row(
        "unwrap",
        HONOURED,
        "the end of a job, `image.generation.completed` (ours), signed as the SDKs verify it",
        _received(_draw),
    ),
    _row(
        "test",
        REFUSED,
        "404 `webhook_endpoint_not_found`",
        fails(
            Ask("POST /webhook_endpoints/we_none/test", {"event_type": "batch.failed"}),
            404,
            "webhook_endpoint_not_found",
        ),
        ("http",),
        ("another's, unknown",),
    ),
]
