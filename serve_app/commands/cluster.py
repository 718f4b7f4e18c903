"""What the commands that talk to a Ray cluster share: its address, its room, how they speak."""

from __future__ import annotations

import argparse

from rich.console import Console

ADDRESS = "http://127.0.0.1:8265"


def add_address(parser: argparse.ArgumentParser, default: str | None = ADDRESS) -> None:
    """Where the dashboard of the Ray cluster is."""
    parser.add_argument(
        "--address",
        default=default,
        metavar="URL",
        help=f"the Ray dashboard of the cluster ({ADDRESS} is that of meltproof run)",
    )


def add_file(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """The config file, or files."""
    parser.add_argument("file", nargs=nargs, metavar="FILE", help="a Serve config file")


def speaker(*, stderr: bool = False) -> Console:
    """A terminal gets colours; a pipe gets plain lines that are never wrapped."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False)
