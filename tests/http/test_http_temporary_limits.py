"""Temporary limits over HTTP: what clients see while a lane is hot, and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from autoscaling import temporary_limits
from autoscaling.limits import next_level
from jobs.limit_levels import LimitLevel
from jobs.request import Tenant
from serve_app.__main__ import main
from serve_app.access.tokens import mint
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until

SECRET = "an operator's secret of 32 bytes or more"
THRESHOLDS: list[dict[str, Any]] = [
    {
        "above_seconds": 60,
        "below_seconds": 30,
        "hold_seconds": 5,
        "tiers": {
            "free": {"images_per_day": 1, "rollout": "off"},
            "queue": {"queued_jobs": 1},
        },
    }
]
FREE_ONLY = [{**THRESHOLDS[0], "tiers": {"free": {"images_per_day": 1}}}]
IMAGES = "/v1/images/generations"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(temporary_limits, "FOLLOW_SECONDS", 0.01)
    settings = config(
        tiers={"free": {"images_per_day": 3, "queued_jobs": 5}, "plus": {}, "queue": {}},
        keys=[
            {"key": "sk-bob", "tenant": "bob", "tier": "plus"},
            {"key": "sk-cy", "tenant": "cy", "tier": "queue"},
        ],
        signing=[{"id": "new", "secret": SECRET}],
        temporary_limits=THRESHOLDS,
    )
    with stage(tmp_path, settings) as made:
        yield made


@pytest.fixture
def http(shared: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, timeout=60) as made:
        yield made


def bearer(tenant: str) -> dict[str, str]:
    if tenant in ("bob", "cy"):
        return {"authorization": f"Bearer sk-{tenant}"}
    token = mint(Tenant(tenant, "free"), time.time() + 600, "new", SECRET.encode())
    return {"authorization": f"Bearer {token}"}


def draw(http: httpx.Client, tenant: str, n: int = 1) -> httpx.Response:
    headers = {**bearer(tenant), "prefer": "respond-async"}
    return http.post(IMAGES, json={"prompt": "a red fox", "n": n}, headers=headers)


def limits(http: httpx.Client, tenant: str) -> dict[str, Any]:
    body: dict[str, Any] = http.get("/v1/limits", headers=bearer(tenant)).json()
    return body


def read(shared: Stage, drain_seconds: float) -> LimitLevel:
    """A dispatcher's reading, long after the one before, and another when it has held."""
    thresholds = shared.config.thresholds()
    before, now = shared.ledger.limit_level("default")
    for seconds in (0.0, THRESHOLDS[0]["hold_seconds"]):
        after = next_level(thresholds, before, drain_seconds, now + seconds)
        assert shared.ledger.move_limits("default", before, after)
        before = after
    assert shared.ledger.move_limits("default", before, replace(before, read_at=now, since=now))
    return before


def until(what: Callable[[], bool]) -> None:
    wait_until(what, "the limits are known")


def test_a_hot_lane_says_so_everywhere(shared: Stage, http: httpx.Client) -> None:
    first = draw(http, "ada")
    assert (first.status_code, first.headers.get("x-meltproof-limits")) == (202, None)
    assert limits(http, "ada")["temporary"] is False
    assert read(shared, 100.0).level == 1
    until(lambda: bool(limits(http, "ada")["temporary"]))

    body = limits(http, "ada")
    assert body["images_per_day"] | {"resets_at": 0} == {
        "limit": 1, "used": 1, "remaining": 0, "resets_at": 0,
    }  # fmt: skip
    assert body["usual"] == {"images_per_day": 3, "queued_jobs": 5, "concurrent_renders": None}
    assert body["reason"] == "100 s of work were ahead, over 60 s for 5 s"
    assert abs(body["since"] - time.time()) < 60
    assert 1 <= body["eases_in_seconds"] <= 75

    refused = draw(http, "ada")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["temporary"] is True
    assert "images a day: 1 instead of 3" in error["message"]
    assert f"Try again in {refused.headers['retry-after']} s." in error["message"]
    assert refused.headers["x-meltproof-limits"] == "temporary"
    assert refused.headers["x-ratelimit-limit-images"] == "1"

    newcomer = draw(http, "zoe")
    assert (newcomer.status_code, newcomer.json()["error"]["code"]) == (403, "not_yet_open")
    assert "Temporary limits" in newcomer.json()["error"]["message"]
    assert int(newcomer.headers["retry-after"]) >= 1
    assert limits(http, "zoe")["open"] is False
    assert limits(http, "ada")["open"] is True, "who is in stays in"

    paid = draw(http, "bob", 5)
    assert (paid.status_code, "x-meltproof-limits" in paid.headers) == (202, False)
    assert limits(http, "bob")["temporary"] is False

    assert read(shared, 10.0).level == 0
    until(lambda: limits(http, "ada")["temporary"] is False)
    assert draw(http, "zoe", 3).status_code == 202
    assert draw(http, "ada", 2).headers["x-ratelimit-limit-images"] == "3"


def test_what_is_never_allowed_is_refused_as_ever(shared: Stage, http: httpx.Client) -> None:
    assert draw(http, "ada").status_code == 202
    read(shared, 100.0)
    until(lambda: bool(limits(http, "ada")["temporary"]))
    refused = draw(http, "ada", 4)
    assert refused.json()["error"]["code"] == "insufficient_quota"


def test_a_queue_that_is_full_only_for_now(shared: Stage, http: httpx.Client) -> None:
    read(shared, 100.0)
    until(lambda: "x-meltproof-limits" in http.get("/v1/limits", headers=bearer("cy")).headers)
    shared.worker.pause()
    try:
        answers = [draw(http, "cy") for _ in range(2)]
    finally:
        shared.worker.resume()
    message = answers[-1].json()["error"]["message"]
    assert message.startswith("Temporary limits: waiting jobs: 1 instead of any number")


def test_the_operator_reads_every_change(
    shared: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {
        "applications": [
            {
                "import_path": "serve_app.app:build",
                "args": {"ledger": {"dsn": shared.database}, "temporary_limits": FREE_ONLY},
            }
        ]
    }
    path = tmp_path / "meltproof.yaml"
    path.write_text(yaml.safe_dump(document))
    assert main(["limits", str(path)]) == 0
    assert capsys.readouterr().out == "lane default: usual limits (1 threshold)\n"
    read(shared, 100.0)
    read(shared, 10.0)
    read(shared, 80.0)
    assert main(["limits", str(path), "--last", "2"]) == 0
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("lane default: temporary limits, threshold 1 of 1, since ")
    assert [row.split("Z ", 1)[1].strip().split(maxsplit=2) for row in rows] == [
        ["0", "1", "80 s of work were ahead, over 60 s for 5 s"],
        ["1", "0", "10 s of work were ahead, under 30 s for 5 s"],
    ]
    assert main(["limits", str(tmp_path / "none.yaml")]) == 2
