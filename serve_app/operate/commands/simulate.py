"""`meltproof simulate`: what a config file would do under load, without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from autoscaling.simulator.baselines import BASELINES
from autoscaling.simulator.chrome_trace import chrome_trace
from autoscaling.simulator.clairvoyant import clairvoyant, gpu_seconds
from autoscaling.simulator.energy import WATTS
from autoscaling.simulator.figures import figures
from autoscaling.simulator.report import as_json, table
from autoscaling.simulator.scenarios import SCENARIOS, arrivals
from autoscaling.simulator.simulation import SimulationResult, simulate
from autoscaling.simulator.traces import TraceError, read_trace
from autoscaling.simulator.workload import Arrival, ColdStart
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.commands.operating import a_number
from serve_app.operate.simulated import PRODUCTION_STARTS, Assumptions, Simulated, simulated

BUSY_SHARE = 0.8
"""Of max_replicas: what the busiest moment of a scenario asks for, unless said."""


def main(arguments: Sequence[str]) -> int:
    """Simulate and report; 1 for what cannot be simulated."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ConfigError, TraceError, OSError) as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        return 1


def _run(options: argparse.Namespace) -> int:
    runs = _runs(options)
    coming = _arrivals(options, runs[0])
    length = SCENARIOS[options.scenario].duration_seconds if options.scenario else 0.0
    outcomes: list[tuple[str, SimulationResult]] = []
    for run in runs:
        policy = None if run.new_policy is None else run.new_policy()
        outcome = simulate(run.lane, coming, policy, duration_seconds=length, seed=options.seed)
        outcomes.append((run.name, outcome))
    optimum = _optimum_hours(options, runs[0], coming)
    found = [figures(name, outcome, WATTS[options.gpu], optimum) for name, outcome in outcomes]
    Console(highlight=False).print(table(found))
    if options.json:
        options.json.write_text(as_json(found), encoding="utf-8")
    if options.chrome_trace:
        options.chrome_trace.write_text(chrome_trace(outcomes[0][1]), encoding="utf-8")
    if options.plot:
        from autoscaling.simulator.plot import save_plot  # takes a second to import

        save_plot(options.plot, outcomes, f"{options.scenario or options.trace.name}, simulated")
    return 0


def _optimum_hours(
    options: argparse.Namespace, run: Simulated, coming: Sequence[Arrival]
) -> float | None:
    """GPU-hours of the best schedule in hindsight with the same lane and wait target."""
    if not options.optimum:
        return None
    best = clairvoyant(run.lane, coming, run.wait_seconds, seed=options.seed)
    return None if best is None else gpu_seconds(best) / 3600


def _runs(options: argparse.Namespace) -> list[Simulated]:
    assumptions = Assumptions(
        picture_seconds=options.gpu_seconds_per_picture,
        cold_start=options.cold_start,
        nodes=options.nodes,
        start_failures=options.start_failures,
        failures_per_hour=options.failures_per_hour,
    )

    def load(path: Path) -> Simulated:
        file = parse_serve_config(load_serve_config(path), str(path))
        return simulated(path, file, options.lane, assumptions)

    def other(name: str) -> Simulated:
        if name in BASELINES:
            return asked.scaled_by(name)
        if not Path(name).exists():
            raise ConfigError(f"{name}: no such file, nor one of {', '.join(BASELINES)}")
        found = load(Path(name))
        if missing := sorted(asked.lane.tiers.keys() - found.lane.tiers.keys()):
            raise ConfigError(f"{name}: args.tiers: has no {missing[0]!r}, whose jobs it gets here")
        return found

    asked = load(options.config)
    return [asked, *map(other, options.compare)]


def _arrivals(options: argparse.Namespace, run: Simulated) -> list[Arrival]:
    lane = run.lane
    if options.trace:
        return read_trace(options.trace, lane.tiers, options.seed)
    return arrivals(
        SCENARIOS[options.scenario],
        lane.tiers,
        options.seed,
        peak_gpus=options.peak_gpus or BUSY_SHARE * lane.max_replicas,
        picture_seconds=lane.picture_seconds,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof simulate",
        description="Run a lane of a config file on a fake clock and say who waits how long, and "
        "what it costs. The queue, the batches and the scaling are the production code.",
        epilog="scenarios:\n"
        + "\n".join(f"  {scenario.name:<11} {scenario.what}" for scenario in SCENARIOS.values())
        + "\n\nThe same seed gives the same report. See docs/simulator.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a Serve config file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scenario", choices=SCENARIOS, metavar="NAME", help="one of those below")
    source.add_argument("--trace", type=Path, metavar="FILE", help="a CSV file with arrival times")
    parser.add_argument(
        "--compare",
        nargs="+",
        default=(),
        metavar="OTHER",
        help=f"beside it: other config files, or other policies ({', '.join(BASELINES)})",
    )
    parser.add_argument(
        "--optimum", action="store_true", help="find the best schedule in hindsight: a dozen runs"
    )
    parser.add_argument(
        "--lane",
        help="which of the config file's lanes or models, if it has several: queue or name",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--peak-gpus",
        type=_POSITIVE,
        metavar="N",
        help=f"work at a scenario's busiest moment (default: {BUSY_SHARE:.0%}% of max_replicas)",
    )
    parser.add_argument(
        "--gpu-seconds-per-picture", type=_POSITIVE, metavar="S", help="instead of the model's"
    )
    parser.add_argument(
        "--cold-start",
        type=_cold_start,
        default=PRODUCTION_STARTS,
        metavar="S[:P90]",
        help="until a new replica draws: always S, or with median S and that 90th percentile "
        "(default: 22.7:42, as in a production trace)",
    )
    parser.add_argument(
        "--nodes",
        type=_count,
        metavar="N",
        help="GPUs that there are at most",
    )
    parser.add_argument(
        "--start-failures", type=_SHARE, default=0.0, metavar="SHARE", help="of starts that fail"
    )
    parser.add_argument(
        "--failures-per-hour", type=_NOT_NEGATIVE, default=0.0, metavar="N", help="of one replica"
    )
    parser.add_argument("--gpu", choices=WATTS, default="h200", help="whose energy is estimated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw GPUs, waits and queue")
    parser.add_argument(
        "--chrome-trace", type=Path, metavar="FILE", help="write the run for ui.perfetto.dev"
    )
    return parser


_POSITIVE, _NOT_NEGATIVE, _SHARE = a_number(0.001), a_number(0), a_number(0, 0.99)


def _count(text: str) -> int:
    a_number(1)(text)
    return int(text)


def _cold_start(text: str) -> ColdStart:
    median, _, p90 = text.partition(":")
    try:
        return ColdStart(_NOT_NEGATIVE(median), _NOT_NEGATIVE(p90) if p90 else None)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; wanted such as 20 or 22.7:42") from None
