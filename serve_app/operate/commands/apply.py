"""`meltproof apply`: check a file, explain it, deploy it, wait until it runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoscaling.capacity import shortage
from serve_app.config.errors import ConfigError
from serve_app.config.secret_fields import hidden
from serve_app.config.serve_file import ServeFile
from serve_app.operate.checking import advice, check_file
from serve_app.operate.commands.diff import explain
from serve_app.operate.commands.operating import add_address, add_file, serve_at, speaker
from serve_app.operate.config_diff import changes, inline_secrets
from serve_app.operate.reserved import reservations
from serve_app.operate.serve_api import ClusterFailed, NoCluster, ServeApi

EPILOG = """\
The file is the whole truth: applications that it does not name are removed. On KubeRay the operator
puts its own serveConfigV2 back, so --kuberay NAME prints the patch of the RayService instead:
  meltproof apply FILE --kuberay meltproof | kubectl patch rayservice meltproof --type merge \\
    --patch-file /dev/stdin

exit codes: 0 it runs; 1 Serve refused it or it did not start; 2 the file or an argument is wrong;
3 nothing answers at the address; 4 you said no"""


def main(arguments: Sequence[str]) -> int:
    """Deploy; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = speaker(stderr=True)
    try:
        config, file = check_file(options.file)
    except ConfigError as error:
        console.print("\n".join(error.problems), style="red")
        return 2
    if options.kuberay:
        return _patch(options.file, config)
    api = serve_at(options.address)
    try:
        return _deploy(api, config, file, yes=options.yes)
    except ClusterFailed as error:
        console.print(hidden(str(error), ServeFile, config), style="red")
        return 3 if isinstance(error, NoCluster) else 1


def _deploy(api: ServeApi, config: dict[str, Any], file: ServeFile, *, yes: bool) -> int:
    console = speaker()
    found = changes(api.status(), config)
    explain(found, console)
    if found:
        if (short := shortage(reservations(file), api.nodes())) is not None:
            console.print(f"not now, but perhaps when nodes are added: {short}", style="yellow")
        for line in advice(file):
            console.print(line, style="yellow")
        if not yes and not _agreed():
            return 4
        api.put(config)
    api.await_running(config, lambda line: console.print(hidden(line, ServeFile, config)))
    console.print("it runs as the file says", style="green")
    return 0


def _agreed() -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        speaker(stderr=True).print("this is no terminal to ask at: say --yes")
        return False
    try:
        return speaker().input("apply? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _patch(path: str, config: dict[str, Any]) -> int:
    for secret in inline_secrets(config):
        speaker(stderr=True).print(
            f"{secret} is a secret, and whoever may read the RayService will read it: "
            "take it from a Kubernetes Secret (docs/kubernetes.md)",
            style="yellow",
        )
    patch = {"spec": {"serveConfigV2": Path(path).read_text(encoding="utf-8")}}
    sys.stdout.write(json.dumps(patch) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof apply",
        description="Check a config file, explain it against what runs, deploy it, wait for it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_file(parser)
    add_address(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--kuberay", metavar="NAME", help="print the patch of that RayService")
    return parser
