"""The `meltproof` command. It imports only the subcommand that is asked for, so that a client
command never pays for the imports of the cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "run": "start the service on this machine and stay up",
    "generate": "draw a picture from a prompt",
    "keys": "make, list, rotate and revoke API keys; mint signed tokens",
    "limits": "say how far heat tightens limits, and every change of it",
    "erase": "delete everything about a tenant",
    "simulate": "try a config file against a crowd, on a fake clock",
    "status": "say what the service is and what it is doing",
    "check": "check config files strictly, and that their replicas fit",
    "plan": "how many GPUs, nodes and databases so many images take, and why",
    "diff": "explain what deploying an edited config file would do",
    "apply": "check, explain and deploy an edited config file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Dispatch to serve_app.commands.<name>; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    chosen = parser.parse_args(given[:1]).command
    try:
        return int(import_module(f"serve_app.commands.{chosen}").main(given[1:]))
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="meltproof",
        description="An image service for your own GPUs that speaks the OpenAI Images API.",
        epilog=f"commands:\n{lines}\n\nmeltproof COMMAND --help says more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
