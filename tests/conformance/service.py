"""The service that is asked: one cluster on loopback with two lanes, one that draws without a
model, for speed, and one with the embedded model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_app.config.cluster import environment
from serve_app.operate.local_cluster import LocalCluster, free_port
from tests.stages.webhook_receiver import NETWORKS

KEY = "sk-local"
TENANTS: dict[str, Any] = {
    "tiers": {"free": {}, "poor": {"images_per_day": 2}, "closed": {"rollout": "off"}},
    "keys": [
        {"key": KEY, "tenant": "local"},
        {"key": "sk-poor", "tenant": "poor", "tier": "poor"},
        {"key": "sk-closed", "tenant": "closed", "tier": "closed"},
    ],
    "webhooks": NETWORKS,
}
"""poor: two images a day. closed: a tier whose rollout has reached nobody."""
PACED: dict[str, Any] = {
    "name": "meltproof-paced",
    "aliases": ["gpt-image-2"],
    "family": "paced",
    "size": "256x256",
    "options": {"pass_ms": 1.0, "per_row_ms": 0.1},
}
EMBEDDED: dict[str, Any] = {
    "name": "meltproof-emoji",
    "options": {"weights": "weights/emoji-2", "threads": 1},
}


@contextmanager
def service() -> Iterator[dict[str, str]]:
    """Base URLs for clients by lane. Raises ClusterFailed."""
    with tempfile.TemporaryDirectory(prefix="meltproof-conformance-") as folder:
        cluster = LocalCluster(settings(Path(folder)), environment(), dashboard_port=0)
        cluster.start(lambda said: print(said, flush=True))
        try:
            lanes = zip(("paced", "embedded"), cluster.application_urls, strict=True)
            yield {lane: f"{url}/v1" for lane, url in lanes}
        finally:
            cluster.stop()


def settings(folder: Path) -> dict[str, Any]:
    """A Serve config file with both lanes."""
    shared = {
        **TENANTS,
        "decoder": {"slots": 4, "num_cpus": 0.3},
        "gateway": {"keepalive_seconds": 5.0},
        "ledger": {"dsn": f"sqlite:///{folder}/ledger.db"},
        "blobs": {"directory": f"{folder}/blobs"},
        "provenance": "off",
    }
    lanes = [
        {"lane": "paced", "model": PACED, "safety": {"screens": [], "screen_at": []}},
        {"lane": "embedded", "model": EMBEDDED, "safety": {"screen_at": []}},
    ]
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": free_port()},
        "applications": [
            {
                "name": args["lane"],
                "route_prefix": f"/{args['lane']}",
                "import_path": "serve_app.app:build",
                "args": {**shared, **args},
            }
            for args in lanes
        ],
    }
