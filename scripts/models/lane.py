"""The lane that is measured: configs/separate-models.yaml with places of its own, and its edits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from scripts.cluster import Config
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import free_port

CONFIG = Path("configs/separate-models.yaml")
LONG, SHORT = 40, 6
"""Passes of a picture: long enough that an upgrade interrupts it, and short."""
OPTIONS = {"pass_ms": 100.0, "per_row_ms": 10.0}
CHANGED, ADDED = "sketch", "anime"
"""The model that is upgraded, and the one that comes and goes. `photo` and the gateway stay."""


def lane(folder: Path) -> Config:
    """The gateway, a bystander with short pictures, and the model that is upgraded, with long ones
    that its decoders do not finish before they leave."""
    config = copy.deepcopy(load_serve_config(CONFIG))  # anchors are one and the same object
    config["http_options"]["port"] = free_port()
    gateway, photo, sketch = config["applications"]
    for application in (gateway, photo, sketch):
        application["args"]["ledger"] = {"dsn": f"sqlite:///{folder}/ledger.db"}
        application["args"]["blobs"] = {"directory": f"{folder}/blobs"}
    for application in (photo, sketch):
        application["args"]["model"]["options"] = dict(OPTIONS)
        application["args"]["decoder"] = {"num_cpus": 0.1, "grace_seconds": 0.5}
    photo["args"]["qualities"] = qualities(SHORT)
    sketch["args"]["qualities"] = qualities(LONG)
    return config


def qualities(medium: int) -> dict[str, int]:
    """With so many passes unless a request says otherwise."""
    return {"low": 2, "medium": medium, "high": LONG, "xhigh": LONG, "max": LONG}


def with_added(config: Config) -> Config:
    """One more model."""
    config = copy.deepcopy(config)
    added = copy.deepcopy(named(config, CHANGED))
    added["name"] = added["args"]["model"]["name"] = ADDED
    added["args"]["qualities"] = qualities(SHORT)
    config["applications"].append(added)
    return config


def with_other_passes(config: Config) -> Config:
    """An edit of the changed model that is live."""
    config = copy.deepcopy(config)
    live = {"qualities": qualities(LONG - 1)}
    named(config, CHANGED)["deployments"] = [{"name": "Dispatcher", "user_config": live}]
    return config


def with_other_options(config: Config) -> Config:
    """An edit of the changed model that replaces all of its replicas."""
    config = copy.deepcopy(config)
    named(config, CHANGED)["args"]["model"]["options"]["pass_ms"] = 0.8 * OPTIONS["pass_ms"]
    return config


def named(config: Config, name: str) -> dict[str, Any]:
    """That application of the file."""
    return next(found for found in config["applications"] if found["name"] == name)
