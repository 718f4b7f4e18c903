"""`meltproof check`: is a config file right, and do the replicas that it promises fit?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import psutil

from autoscaling.capacity import NodeCapacity, Reservation, needed, shortage
from engine.classifiers.checkpoint import check_folder
from engine.model_directory.json_file import ModelRefused
from engine.precision import AUTO, precision_of
from serve_app.config.errors import ConfigError
from serve_app.config.ledger_check import check_blobs
from serve_app.config.serve_file import ServeFile
from serve_app.operate.checking import advice, check_file
from serve_app.operate.commands.operating import a_number, add_address, add_file, serve_at, speaker
from serve_app.operate.head_environment import LOOPBACK
from serve_app.operate.reserved import reservations
from serve_app.operate.serve_api import ClusterFailed

MOST_NODES = 100_000
EPILOG = """\
Keys that are never read are errors, though Ray Serve accepts them. A file for loopback is compared
with this machine, any other one only with what --cpus, --gpus and --nodes, or --address, say.

exit codes: 0 every file is right and fits; 1 something is wrong; 2 wrong arguments"""


def main(arguments: Sequence[str]) -> int:
    """Check files; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.nodes is not None and options.cpus is None:
        parser.error("--nodes: say with --cpus and --gpus how large each one is")
    console = speaker()
    wrong = 0
    for path in options.file:
        try:
            _, file = check_file(path)
            lines = [*verdict(file, _room(file, options)), *precisions(file)]
            require_classifiers(file)
            try_buckets(file, asked=options.bucket)
            console.print(f"{path}: ok", style="green")
            for line in [*lines, *advice(file)]:
                console.print(f"  {line}")
        except (ConfigError, ClusterFailed, ClusterTooSmall) as error:
            wrong += 1
            for line in error.problems if isinstance(error, ConfigError) else [f"{path}: {error}"]:
                console.print(line, style="red")
    return 1 if wrong else 0


def require_classifiers(file: ServeFile) -> None:
    """The folders of operators' classifiers, where the file is for this machine: what a replica
    would refuse is refused here. Raises ConfigError."""
    if file.http_options.host != LOOPBACK:
        return
    problems: list[str] = []
    for application in file.applications:
        for spec in application.args.safety.specs():
            try:
                check_folder(spec)
            except ModelRefused as error:
                problems += error.problems
    if problems:
        raise ConfigError(*(f"safety.classifiers: {problem}" for problem in problems))


def precisions(file: ServeFile) -> list[str]:
    """What the embedded model is computed in, one line a model. Raises ConfigError."""
    lines, problems = [], []
    for number, application in enumerate(file.applications):
        for model in (one.model for one in application.models() if one.model.family == "masked"):
            asked = model.options.get("dtype", AUTO)
            try:
                found = precision_of(asked, str(model.options.get("device", AUTO)))
            except ValueError as error:
                problems.append(f"applications.{number}.args: model {model.name}: options: {error}")
                continue
            why = "this machine's processor; others choose for themselves, a GPU float32"
            why = why if asked == AUTO else "options.dtype"
            lines.append(f"model {model.name}: {found} ({why})")
    if problems:
        raise ConfigError(*problems)
    return lines


def try_buckets(file: ServeFile, *, asked: bool) -> None:
    """Whether each bucket is there, and is read and written with these keys, as at the start; where
    the file is for this machine, or it is asked. Raises ConfigError."""
    if not asked and file.http_options.host != LOOPBACK:
        return
    problems: list[str] = []
    for number, application in enumerate(file.applications):
        try:
            check_blobs(application.args.blobs.place())
        except ConfigError as error:
            problems += [f"applications.{number}.args.{problem}" for problem in error.problems]
    if problems:
        raise ConfigError(*problems)


class ClusterTooSmall(Exception):
    """The replicas find no room; the message is the sum."""


def verdict(file: ServeFile, nodes: Sequence[NodeCapacity] | None) -> list[str]:
    """What the replicas need at least and at most. Raises ClusterTooSmall."""
    held = reservations(file)
    if nodes and (short := shortage(held, nodes)) is not None:
        raise ClusterTooSmall(short)
    least, most = _sums(held, most=False), _sums(held, most=True)
    lines = [f"needs {_amounts(least)}"]
    if most != least:
        lines.append(f"autoscaling may ask for up to {_amounts(most)}")
    if nodes is None:
        lines.append("not compared with any machine: say --cpus, --gpus and --nodes, or --address")
    else:
        offered = sum(node.num_cpus for node in nodes), sum(node.num_gpus for node in nodes)
        which = "one machine has" if len(nodes) == 1 else f"{len(nodes)} nodes have"
        lines.append(f"fits: {which} {_amounts(offered)}")
    return lines


def _sums(held: Sequence[Reservation], *, most: bool) -> tuple[float, float]:
    return needed(held, "num_cpus", most=most), needed(held, "num_gpus", most=most)


def _amounts(amounts: tuple[float, float]) -> str:
    return f"{amounts[0]:g} CPUs and {amounts[1]:g} GPUs"


def _room(file: ServeFile, options: argparse.Namespace) -> Sequence[NodeCapacity] | None:
    if options.address:
        return serve_at(options.address).nodes()
    if options.cpus is not None:
        return [NodeCapacity(options.cpus, options.gpus)] * int(options.nodes or 1)
    if file.http_options.host == LOOPBACK:
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        return [NodeCapacity(psutil.cpu_count() or 1, gpus)]
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof check",
        description="Check config files strictly, and that their replicas fit.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(parser, "+")
    parser.add_argument("--cpus", type=a_number(0), metavar="N", help="CPUs of each node")
    parser.add_argument(
        "--gpus", type=a_number(0), default=0.0, metavar="N", help="GPUs of each node"
    )
    parser.add_argument(
        "--nodes", type=a_number(1, MOST_NODES), metavar="N", help="nodes of that size (1)"
    )
    parser.add_argument(
        "--bucket",
        action="store_true",
        help="try the bucket of blobs.s3 from here, also of a file that is for another machine",
    )
    add_address(parser, default=None)
    return parser
