"""What a gateway counts."""

from __future__ import annotations

from pathlib import Path

import httpx

from deployments.metrics.catalogue import REASONS
from jobs.batches import BatchState
from tests.stages.http_stage import config, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.metrics_kit import all_samples, samples


def test_orders_and_refusals_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    with stage(tmp_path, config()) as it:
        url = f"{it.url}/v1/images/generations"
        asynchronous = {**it.headers, "Prefer": "respond-async"}
        poor = {"authorization": "Bearer sk-poor"}
        assert httpx.post(url, json={"prompt": "a fox"}, headers=asynchronous).status_code == 202
        assert httpx.post(url, json={"prompt": "a fox"}, headers=it.headers).status_code == 200
        for n in (11, "many"):
            assert httpx.post(url, json={"prompt": "a", "n": n}, headers=it.headers).is_error
        assert httpx.post(url, json={"prompt": "a", "n": 3}, headers=poor).status_code == 429
        assert httpx.post(url, json={"prompt": "a"}, headers={"authorization": "x"}).is_error
        assert httpx.get(f"{it.url}/v1/\"x\"/{{le='1'}}", headers=it.headers).status_code == 404
        shown = samples(it.metrics)
        assert shown("meltproof_orders_total", outcome="accepted") == 2.0
        assert shown("meltproof_orders_total", outcome="refused") == 4.0
        assert shown("meltproof_orders_total", outcome="failed") == 0.0
        assert shown("meltproof_refusals_total", reason="insufficient_quota") == 1.0
        assert shown("meltproof_refusals_total", reason="unknown_url") == 1.0
        accepts = {"model": "test-model", "stage": "accept"}
        assert shown("meltproof_stage_seconds_count", **accepts) == 2.0
        wait_until(lambda: samples(it.metrics)("meltproof_watchers") == 0.0, "the gauges are shown")


def test_no_label_is_what_a_client_has_sent(tmp_path: Path) -> None:
    """Names that are in no config: of models, of paths, of users."""
    with stage(tmp_path, config()) as it, httpx.Client(headers=it.headers) as client:
        url = f"{it.url}/v1/images/generations"
        for number in range(20):
            asked = {"prompt": "a", "model": f"m{number}", "user": f"u{number}"}
            client.post(url, json=asked)
            client.get(f"{it.url}/v1/jobs/{number}")
        labels = [value for one in all_samples(it.metrics) for value in one.labels.values()]
        kinds = {value for value in labels if not value.replace(".", "").isdigit()}
        assert kinds <= {*REASONS, "other", "test-model", "accept", "+Inf", "default"} | {
            "gateway", "accepted", "refused", "failed", "unavailable", "lease_lost", "delivered",
            "dead", "waiting", *BatchState,
        }, kinds  # fmt: skip
