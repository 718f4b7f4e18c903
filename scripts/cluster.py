"""A service of a bench's own on loopback: its config with places of its own, and its cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve_app.config.cluster import environment
from serve_app.operate.local_cluster import LocalCluster, free_port
from serve_app.operate.serve_api import Say

KEY = "sk-local"
Config = dict[str, Any]


def args_of(config: Config) -> dict[str, Any]:
    """The args of a Serve config file's one application."""
    args: dict[str, Any] = config["applications"][0]["args"]
    return args


def own_config(config: Config, folder: Path) -> Config:
    """The same config with a port, a ledger and blobs of its own."""
    config = copy.deepcopy(config)
    config["http_options"]["port"] = free_port()
    args = args_of(config)
    args["ledger"] = {"dsn": f"sqlite:///{folder}/ledger.db"}
    args["blobs"] = {"directory": f"{folder}/blobs"}
    return config


@contextmanager
def running(config: Config, say: Say = lambda _: None) -> Iterator[LocalCluster]:
    """Up while the block runs. say: told what it waits for. Raises ClusterFailed."""
    cluster = LocalCluster(config, environment(), dashboard_port=0)
    try:
        cluster.start(say)
        yield cluster
    finally:
        cluster.stop()
