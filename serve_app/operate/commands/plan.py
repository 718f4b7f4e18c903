"""`meltproof plan`: how many GPUs, nodes and databases so many images a week take, and why."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from autoscaling.planning.figures import PlanFigures, UnknownFigure, load_figures
from autoscaling.planning.plan import PlanInputs, PlanStep, number, plan, together
from serve_app.config.serve_file import read_yaml
from serve_app.operate.commands.operating import a_number, speaker

CLUSTER = Path(__file__).resolve().parents[3] / "configs/cluster.yaml"
ROUNDING = 0.005
"""By which shares may miss the whole."""
HEADER = """\
# {week} images a week of {model} on {gpu}, as `meltproof plan` has it: Ray clusters, {clusters} in
# number, each with a file like this one. {databases} What says EXAMPLE has to become
# yours; configs/cluster.yaml says what the nodes need. Then: meltproof check FILE --nodes ...
"""
EPILOG = """\
Every figure has a source; replace estimates by your own measurements with --set.
--out writes the config of one Ray cluster with its share.

exit codes: 0 planned; 2 wrong arguments"""


def main(arguments: Sequence[str]) -> int:
    """Plan; the exit code."""
    figures = load_figures()
    parser = _parser(figures)
    options = parser.parse_args(arguments)
    inputs = [_inputs(options, name, share) for name, share in _shares(options.model, parser)]
    try:
        plans = [plan(one, figures) for one in inputs]
    except UnknownFigure as error:
        parser.error(str(error))
    for one, steps in zip(inputs, plans, strict=True):
        _show(one, steps)
    if len(plans) > 1:
        speaker().print("\ntogether\n")
        _show_steps(together(plans))
    if options.out:
        if len(plans) > 1:
            parser.error("--out: is for one model; docs/models.md has a file for several")
        try:
            options.out.write_text(_config(inputs[0], plans[0]), encoding="utf-8")
        except OSError as error:
            parser.error(f"--out: {error}")
        speaker().print(f"\nwrote {options.out}; fill in what says EXAMPLE, then check it")
    return 0


def _inputs(options: argparse.Namespace, model: str, share: float) -> PlanInputs:
    return PlanInputs(
        options.images_per_week * share,
        options.peak_factor,
        model,
        options.gpu,
        options.p95_wait,
        options.images_per_job,
        dict(options.set),
    )


def _shares(
    models: Sequence[tuple[str, float | None]], parser: argparse.ArgumentParser
) -> list[tuple[str, float]]:
    """Of each model, of all images. Exits where they are not the whole."""
    if len(models) == 1 and models[0][1] is None:
        return [(models[0][0], 1.0)]
    shares = [(name, share) for name, share in models if share is not None]
    if len(shares) < len(models) or abs(sum(share for _, share in shares) - 1) > ROUNDING:
        parser.error("--model: several need a share each, 1 in all, as in sdxl-1024=0.8")
    return shares


def _show(inputs: PlanInputs, steps: dict[str, PlanStep]) -> None:
    console = speaker()
    console.print(
        f"{number(inputs.images_per_week)} images a week of {inputs.model} on {inputs.gpu}, peak "
        f"{number(inputs.peak_factor)} x the mean, 95 % begin within {number(inputs.p95_wait)} s\n"
    )
    _show_steps(steps)
    console.print("\nwith")
    for name, figure in {n: f for step in steps.values() for n, f in step.figures.items()}.items():
        said = f"  {name.replace('_', ' ')} {number(figure.value)}: {figure}"
        console.print(said, style="yellow" if figure.kind == "estimate" else "green")


def _show_steps(steps: Mapping[str, PlanStep]) -> None:
    for step in steps.values():
        amount = f"{number(step.value):>12} {step.unit:<11}"
        speaker().print(f"{step.name.replace('_', ' '):<18}{amount}= {step.arithmetic}")


def _config(inputs: PlanInputs, steps: Mapping[str, PlanStep]) -> str:
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


def _figure(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name.strip().replace(" ", "_"), a_number(0, above=True)(value)


def _model(text: str) -> tuple[str, float | None]:
    name, _, share = text.partition("=")
    return name, a_number(0, 1, above=True)(share) if share else None


def _parser(figures: PlanFigures) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof plan",
        description="What so many images a week take: every step of the arithmetic, with sources.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    positive, models = a_number(0, above=True), ", ".join(figures.models)
    add = parser.add_argument
    add("--images-per-week", type=positive, required=True, metavar="N", help="such as 700e6")
    add("--peak-factor", type=a_number(1), required=True, metavar="X", help="peak over the mean")
    add(
        "--model",
        type=_model,
        action="append",
        required=True,
        metavar="NAME[=SHARE]",
        help=f"one of {models}; any with --set images_per_gpu_second=R; of several, each with its "
        "share of the images, as in sdxl-1024=0.8",
    )
    add("--gpu", required=True, help=f"one of {', '.join(figures.gpus)}")
    add("--p95-wait", type=positive, required=True, metavar="SECONDS", help="95 %% begin by then")
    add("--images-per-job", type=a_number(1), default=1.0, metavar="N", help="mean n (1)")
    add(
        "--set",
        type=_figure,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a figure of your own, such as dollars_per_hour=2; may be repeated",
    )
    add("--out", type=Path, metavar="FILE", help="write a cluster config")
    return parser
