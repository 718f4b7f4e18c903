"""Tenants whose orders are blocked again and again wait, where the config counts strikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import openai
import pytest

from serve_app.gateway import adopt
from tests.ledger.test_audit import note
from tests.stages.http_stage import Stage, config, stage

STRIKES = {"blocks": 2, "within_seconds": 3600.0, "cooldown_seconds": 900.0}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("strikes"), config(strikes=STRIKES)) as running:
        yield running


def test_orders_are_refused_until_the_newest_strike_is_old(
    shared: Stage, client: openai.OpenAI, http: httpx.Client
) -> None:
    ours = replace(note("one"), tenant="local")
    shared.ledger.log_verdicts([ours, replace(ours, stage="preview"), replace(ours, tenant="ada")])
    assert client.images.generate(prompt="a red fox").data
    shared.ledger.log_verdicts([replace(ours, job_id="two")])
    with pytest.raises(openai.RateLimitError) as refused:
        client.images.generate(prompt="a red fox")
    assert (refused.value.code, refused.value.type) == ("too_many_blocked", "requests")
    assert refused.value.message.count("2 of your orders were blocked") == 1
    headers = refused.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 900
    assert headers["x-should-retry"] == "false"
    edit = http.post("/v1/images/edits", json={"prompt": "a fox", "images": []})
    assert edit.status_code == 429
    assert http.get("/v1/jobs").status_code == 200, "reads go on"

    adopt(shared.app, config())
    assert client.images.generate(prompt="a red fox").data, "a live edit takes them back"
    adopt(shared.app, config(strikes=STRIKES))
    assert http.post("/v1/images/generations", json={"prompt": "a fox"}).status_code == 429
