"""`meltproof run`: Ray and the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from serve_app.config.cluster import environment
from serve_app.config.errors import ConfigError
from serve_app.config.secret_fields import hidden
from serve_app.config.serve_file import ServeFile, load_serve_config, parse_serve_config
from serve_app.operate.checking import advice
from serve_app.operate.local_cluster import run_forever
from serve_app.operate.reserved import reservations

MOST_PORT = 65_535


def main(arguments: Sequence[str]) -> int:
    """Run one config file; the exit code: 2 when the file is refused."""
    parser = argparse.ArgumentParser(
        prog="meltproof run",
        description="Start the service on this machine, on loopback only. Ctrl-C stops all of it.",
    )
    parser.add_argument(
        "config",
        nargs="?",
        default="configs/laptop.yaml",
        help="a Serve config file (default configs/laptop.yaml)",
    )
    parser.add_argument(
        "--dashboard-port",
        type=_port,
        default=8265,
        help="where the Ray dashboard listens (default 8265, 0 picks a free port)",
    )
    options = parser.parse_args(arguments)
    try:
        config = load_serve_config(options.config)
        file = parse_serve_config(config, options.config)
        reserved = reservations(file)
    except ConfigError as error:
        say(str(error))
        return 2
    for line in advice(file):
        say(line)

    def speak(line: str) -> None:
        say(hidden(line, ServeFile, config))

    return run_forever(config, environment(), speak, options.dashboard_port, reserved)


def _port(text: str) -> int:
    """An argument's type."""
    if text.isascii() and text.isdecimal() and int(text) <= MOST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a port from 0 to {MOST_PORT}, not {text!r}")


def say(line: str) -> None:
    """To the terminal at once, also through a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
