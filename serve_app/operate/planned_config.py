"""A plan as the config file of a Ray cluster: configs/cluster.yaml with its share of it all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from autoscaling.planning.plan import PlanInputs, PlanStep, number
from serve_app.config.serve_file import read_yaml

CLUSTER = Path(__file__).resolve().parents[2] / "configs/cluster.yaml"
HEADER = """\
# {week} images a week of {model} on {gpu}, as `meltproof plan` has it: Ray clusters, {clusters} in
# number, each with a file like this one. {databases} What says EXAMPLE has to become
# yours; configs/cluster.yaml says what the nodes need. Then: meltproof check FILE --nodes ...
"""


def planned_config(inputs: PlanInputs, steps: Mapping[str, PlanStep]) -> str:
    """YAML that `meltproof check` accepts. ConfigError when configs/cluster.yaml is not there."""
    clusters = steps["ray_clusters"].value

    def share(name: str) -> int:
        return max(1, math.ceil(steps[name].value / clusters))

    document = read_yaml(CLUSTER)
    [application] = document["applications"]
    args = application["args"]
    options = {options["name"]: options for options in application["deployments"]}
    args["model"].update(name=inputs.model, options={"weights": "weights/EXAMPLE"})
    args["decoder"]["num_gpus"] = 0 if inputs.gpu.startswith("cpu-") else 1
    args["dispatcher"]["replicas"] = share("dispatchers")
    args["gateway"]["replicas"] = share("gateways")
    options["Gateway"]["user_config"]["scaling"]["wait_seconds"] = float(inputs.p95_wait)
    options["Decoder"]["autoscaling_config"].update(
        min_replicas=share("gpus_always_on"), max_replicas=share("gpus_at_peak")
    )
    header = HEADER.format(
        week=number(inputs.images_per_week),
        model=inputs.model,
        gpu=inputs.gpu,
        clusters=number(clusters),
        databases=_databases(int(steps["databases"].value)),
    )
    return header + yaml.dump(document, Dumper=_Dumper, sort_keys=False)


def _databases(count: int) -> str:
    if count == 1:
        return "They share one ledger."
    return f"{count} ledgers: a lane for each (docs/scale.md)."


class _Dumper(yaml.SafeDumper):
    def generate_anchor(self, node: yaml.Node) -> str:
        """What two deployments share has a name that says what it is."""
        return "live" if node.value[0][0].value == "tiers" else "with-database"
