"""The `meltproof` command. It imports only the subcommand that is asked for, so that a client
command never pays for the imports of the cluster."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "run": "start the service on this machine and stay up",
    "generate": "draw a picture from a prompt",
    "keys": "make, list, rotate and revoke API keys; mint signed tokens",
    "webhooks": "add, list, test and remove webhook endpoints; deliver again",
    "limits": "say how far heat tightens limits, and every change of it",
    "withdraw": "forget a model that is not announced any more",
    "review": "list flagged pictures and blocked orders, allow or uphold a verdict",
    "audit": "list what operators changed",
    "backup": "copy a ledger and its pictures while the service runs",
    "restore": "put a backup back into a new ledger",
    "jobs": "list and show jobs of all tenants, cancel or requeue them",
    "usage": "images, GPU-seconds and joules by tenant, model and day",
    "erase": "delete everything about a tenant",
    "models": "look into a checkpoint directory, serve it, list the models of a config file",
    "simulate": "try a config file under a load, on a fake clock",
    "status": "say what the service is and what it is doing",
    "verify": "say where a picture is from: its manifest and its watermark",
    "check": "check config files strictly, and that their replicas fit",
    "plan": "how many GPUs, nodes and databases so many images take, and why",
    "drain": "tell a node to leave: its renders go on elsewhere",
    "diff": "explain what deploying an edited config file would do",
    "apply": "check, explain and deploy an edited config file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Dispatch to serve_app.operate.commands.<name>; the exit code."""
    _make_streams_safe()
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    for number, argument in enumerate(given, 1):
        if not _is_text(argument):
            parser.error(f"argument {number} is not text in UTF-8")
    chosen = parser.parse_args(given[:1]).command
    try:
        code = int(import_module(f"serve_app.operate.commands.{chosen}").main(given[1:]))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads our output has read enough, as `head` does
        _to_nowhere()
        return 141


def _is_text(argument: str) -> bool:
    """False for what a shell passes in another encoding: it could neither be sent nor printed."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _make_streams_safe() -> None:
    """A stream that is closed swallows what is written; what a terminal cannot show is escaped."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _to_nowhere() -> None:
    """Otherwise the interpreter complains once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
