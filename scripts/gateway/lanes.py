"""The applications of the bench in one Serve config file, all over one PostgreSQL: a lane that
counts, the same lane without metrics, a gateway whose orders stay in the ledger, and the echo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.capabilities import capabilities
from jobs.sql.sql_ledger import SqlLedger
from scripts.accept import CONFIG as ACCEPT
from scripts.cluster import Config, args_of, own_config
from serve_app.config.cluster import parse_cluster_config
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import free_port
from serve_app.wire.models import announcement

TENANTS = [f"tenant-{number}" for number in range(100)]
COUNTED, UNCOUNTED = "counted", "uncounted"
ANNOUNCE_SECONDS = 5.0
FLAGS = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
"""For all applications; as nodes of a cluster have them."""


def config_of(folder: Path, dsn: str) -> Config:
    """Routes: /counted, /uncounted, /accept, /echo."""
    config = own_config(load_serve_config(Path("configs/paced.yaml")), folder)
    args = args_of(config)
    args["ledger"] = {"dsn": dsn}
    args["model"]["options"] = {"pass_ms": 4, "per_row_ms": 0}
    args["decoder"] |= {"slots": 8, "replicas": 1, "num_cpus": 0.2}  # all fits on two cores
    args["dispatcher"] = {"ready_queue": 8}
    args["safety"] = {"screens": [], "prompt": False, "num_cpus": 0.1}
    args["provenance"] = "off"
    args["tiers"] = {name: {"weight": 1} for name in ("free", "plus", "pro")}
    args["keys"] = [
        {"key": f"sk-{tenant}", "tenant": tenant, "tier": ("free", "plus", "pro")[number % 3]}
        for number, tenant in enumerate(TENANTS)
    ]
    metrics = {"port": free_port()}
    lanes = [
        _application(config, COUNTED, {"metrics": metrics}),
        _application(config, UNCOUNTED, {"metrics": {"enabled": False}}),
    ]
    own = {**ACCEPT, "lane": "accept", "metrics": metrics}
    accept = _application(config, "accept", {})
    accept["args"] = {name: args[name] for name in ("ledger", "blobs", "provenance")} | own
    accept["import_path"] = "serve_app.app:gateway"
    echo = {"name": "echo", "route_prefix": "/echo", "import_path": "scripts.gateway.echo:build"}
    config["applications"] = [*lanes, accept, echo]
    return config


def _application(config: Config, name: str, own: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = deepcopy(config["applications"][0])
    one |= {"name": name, "route_prefix": f"/{name}"}
    one["args"] |= {"lane": name, **own}
    return one


def metrics_port(config: Config) -> int:
    """Of the lane that counts."""
    port: int = args_of(config)["metrics"]["port"]
    return port


@contextmanager
def announced(config: Config) -> Iterator[None]:
    """The model of the gateway that no dispatcher works for, while the block runs."""
    args = next(one["args"] for one in config["applications"] if one["name"] == "accept")
    lane = parse_cluster_config(args)
    can = asdict(capabilities(lane.model.family, {}))
    model = replace(announcement(lane), capabilities=can)
    ended = threading.Event()

    def announce() -> None:
        with closing(SqlLedger(lane.ledger.dsn)) as ledger:
            while not ended.is_set():
                ledger.announce(model, ready=True)
                ended.wait(ANNOUNCE_SECONDS)

    thread = threading.Thread(target=announce)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
