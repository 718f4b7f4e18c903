"""`meltproof run`: Ray and the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from deployments.local import run_forever


def main(arguments: Sequence[str]) -> int:
    """Run one config file; the exit code."""
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
    return run_forever(parser.parse_args(arguments).config)
