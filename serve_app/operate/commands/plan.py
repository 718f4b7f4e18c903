"""`meltproof plan`: how many GPUs, nodes and databases so many images a week take, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from autoscaling.planning.figures import PlanFigures, UnknownFigure, load_figures
from autoscaling.planning.plan import PlanInputs, PlanStep, number, plan
from serve_app.operate.commands.operating import a_number, speaker
from serve_app.operate.planned_config import planned_config

EPILOG = """\
Every figure has a source; replace estimates by your own measurements with --set.
--out writes the config of one Ray cluster with its share.

exit codes: 0 planned; 2 wrong arguments"""


def main(arguments: Sequence[str]) -> int:
    """Plan; the exit code."""
    figures = load_figures()
    parser = _parser(figures)
    options = parser.parse_args(arguments)
    inputs = PlanInputs(
        options.images_per_week,
        options.peak_factor,
        options.model,
        options.gpu,
        options.p95_wait,
        options.images_per_job,
        dict(options.set),
    )
    try:
        steps = plan(inputs, figures)
    except UnknownFigure as error:
        parser.error(str(error))
    _show(inputs, steps)
    if options.out:
        try:
            options.out.write_text(planned_config(inputs, steps), encoding="utf-8")
        except OSError as error:
            parser.error(f"--out: {error}")
        speaker().print(f"\nwrote {options.out}; fill in what says EXAMPLE, then check it")
    return 0


def _show(inputs: PlanInputs, steps: dict[str, PlanStep]) -> None:
    console = speaker()
    console.print(
        f"{number(inputs.images_per_week)} images a week of {inputs.model} on {inputs.gpu}, peak "
        f"{number(inputs.peak_factor)} x the mean, 95 % begin within {number(inputs.p95_wait)} s\n"
    )
    for step in steps.values():
        amount = f"{number(step.value):>12} {step.unit:<11}"
        console.print(f"{step.name.replace('_', ' '):<18}{amount}= {step.arithmetic}")
    console.print("\nwith")
    for name, figure in {n: f for step in steps.values() for n, f in step.figures.items()}.items():
        said = f"  {name.replace('_', ' ')} {number(figure.value)}: {figure}"
        console.print(said, style="yellow" if figure.kind == "estimate" else "green")


def _figure(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name.strip().replace(" ", "_"), a_number(0, above=True)(value)


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
    add("--model", required=True, help=f"one of {models}; any with --set images_per_gpu_second=R")
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
