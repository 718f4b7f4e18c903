"""A plan as the config file of one Ray cluster, with its share of everything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from autoscaling.planning.plan import Line, Wishes, number
from serve_app.scaling_options import DECODER_POLICY

HEADER = """\
# {week} images a week of {model} on {gpu}, as `meltproof plan` has it: Ray clusters that share the
# ledger, {clusters} in number, each with a file like this one. What says EXAMPLE has to become
# yours; configs/cluster.yaml says what the nodes need. Then: meltproof check FILE --nodes ...
"""


def planned_config(wishes: Wishes, lines: Mapping[str, Line]) -> str:
    """YAML that `meltproof check` accepts."""
    clusters = lines["ray_clusters"].value

    def share(name: str) -> int:
        return max(1, math.ceil(lines[name].value / clusters))

    on_cpu = wishes.gpu.startswith("cpu-")
    on_cpu_nodes = {"num_cpus": 1, "label_selector": {"pool": "cpu"}}
    tiers = {"tiers": {"free": {"weight": 1, "images_per_day": 3}, "plus": {"weight": 4}}}
    live = {**tiers, "scaling": {"wait_seconds": float(wishes.p95_wait)}}
    args: dict[str, Any] = {
        "model": {
            "name": wishes.model,
            "family": "masked",
            "options": {"weights": f"weights/EXAMPLE-{wishes.model}"},
        },
        "decoder": {"slots": 32, "num_cpus": 1, "num_gpus": 0 if on_cpu else 1},
        "dispatcher": {"replicas": share("dispatchers")},
        "gateway": {"replicas": share("gateways")},
        "ledger": _ledger(int(lines["ledger_shards"].value)),
        "blobs": {"directory": "/var/lib/meltproof/blobs"},
    }
    bounds = {
        "min_replicas": share("gpus_always_on"),
        "max_replicas": share("gpus_at_peak"),
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "policy": {"policy_function": DECODER_POLICY},
    }
    application = {
        "name": "meltproof",
        "route_prefix": "/",
        "import_path": "serve_app.app:build",
        "args": args,
        "deployments": [
            {"name": "Gateway", "ray_actor_options": on_cpu_nodes, "user_config": live},
            {"name": "Dispatcher", "ray_actor_options": on_cpu_nodes, "user_config": live},
            {"name": "Decoder", "autoscaling_config": bounds},
        ],
    }
    document = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [application],
    }
    header = HEADER.format(
        week=number(wishes.images_per_week),
        model=wishes.model,
        gpu=wishes.gpu,
        clusters=number(clusters),
    )
    return header + yaml.dump(document, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    def generate_anchor(self, node: yaml.Node) -> str:
        """What two deployments share has a name that says what it is."""
        return "live" if node.value[0][0].value == "tiers" else "on-cpu-nodes"


def _ledger(shards: int) -> dict[str, Any]:
    host = "postgresql://meltproof@{}.EXAMPLE.internal/ledger"
    if shards == 1:
        return {"dsn": host.format("ledger")}
    return {
        "dsn": host.format("accounts"),
        "shards": [{"dsn": host.format(f"ledger-{number}")} for number in range(shards)],
    }
