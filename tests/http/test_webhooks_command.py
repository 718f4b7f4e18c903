"""`meltproof webhooks` beside a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from jobs.webhooks import DeliveryState
from serve_app.__main__ import main
from serve_app.gateway import adopt
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.webhook_receiver import NETWORKS, Receiver, receiver

Run = Callable[..., int]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("hooks"), config(webhooks=NETWORKS)) as running:
        yield running


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def run(shared: Stage, tmp_path: Path) -> Run:
    """`meltproof webhooks` on the config of that gateway."""
    args = {"ledger": {"dsn": shared.database}, "webhooks": {**NETWORKS, "endpoints": 2}}
    application = {"name": "lane", "import_path": "serve_app.app:build", "args": args}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump({"applications": [application]}))
    return lambda *words: main(["webhooks", words[0], "--config", str(path), *words[1:]])


def test_an_endpoint_is_added_tested_and_removed(
    run: Run, shared: Stage, there: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("add", "ada", f"{there.url}/hook", "--events", "batch.failed") == 0
    secret = capsys.readouterr().out.strip()
    (endpoint,) = shared.ledger.endpoints("ada", 10)
    assert (endpoint.secret, endpoint.event_types) == (secret, ("batch.failed",))
    assert run("list") == 0
    said = capsys.readouterr().out
    assert endpoint.id in said
    assert secret not in said
    assert run("test", endpoint.id) == 0
    assert there.received[0].event(secret)["type"] == "image.generation.completed"
    there.answer = lambda _: 500
    assert run("test", endpoint.id, "--event", "batch.failed") == 1
    assert "it answered 500" in capsys.readouterr().err
    calls = {(one.action, one.target, one.outcome) for one in shared.ledger.admin_calls(10)}
    assert ("webhooks add", "ada", "done") in calls
    assert not [call for call in calls if secret in str(call)]
    assert run("remove", endpoint.id) == 0
    assert shared.ledger.endpoints("ada", 10) == []
    assert run("remove", endpoint.id) == 2


def test_what_was_given_up_is_listed_and_made_again(
    run: Run, shared: Stage, there: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    there.answer = lambda _: 500
    assert run("add", "bob", there.url) == 0
    (endpoint,) = shared.ledger.endpoints("bob", 1)
    assert run("list", "bob", "--dead") == 0
    assert capsys.readouterr().out.endswith("no delivery is given up\n")
    assert run("test", endpoint.id) == 1
    (waiting,) = shared.ledger.deliveries("bob", endpoint.id, None, 10)
    adopt(shared.app, config(webhooks={**NETWORKS, "retry_seconds": 1e-6}))
    shared.ledger.redeliver("bob", endpoint.id, waiting.event)
    dead = DeliveryState.DEAD
    wait_until(lambda: shared.ledger.deliveries("bob", endpoint.id, dead, 1), "it is given up")
    capsys.readouterr()
    assert run("list", "bob", "--dead") == 0
    assert waiting.event in capsys.readouterr().out
    there.answer = lambda _: 200
    assert run("redeliver", endpoint.id) == 0
    assert "1 deliveries" in capsys.readouterr().err
    assert run("redeliver", endpoint.id, "evt_none") == 2
    assert run("enable", endpoint.id) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a b", "https://example.com"], "TENANT"),
        (["add", "ada", "ftp://example.com"], "URL: it is not"),
        (["enable", "we_none"], "no such endpoint"),
        (["list", "--application", "none"], "--application"),
    ],
)
def test_wrong_arguments_are_named(
    run: Run, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err
