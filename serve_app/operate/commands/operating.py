"""What the commands of an operator share: how arguments are read, and how they speak."""

from __future__ import annotations

import argparse
import math
import os
import pwd
import socket
from collections.abc import Callable

from rich.console import Console

from serve_app.config.cluster import environment
from serve_app.operate.serve_api import ServeApi, ray_token

ADDRESS = "http://127.0.0.1:8265"


def add_address(parser: argparse.ArgumentParser, default: str | None = ADDRESS) -> None:
    """Where the dashboard of the Ray cluster is."""
    parser.add_argument(
        "--address",
        default=default,
        metavar="URL",
        help=f"the Ray dashboard of the cluster ({ADDRESS} is that of meltproof run)",
    )


def serve_at(address: str) -> ServeApi:
    """The Serve behind the dashboard that --address names."""
    return ServeApi(address.rstrip("/"), ray_token(environment()))


def add_file(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """The config file, or files."""
    parser.add_argument("file", nargs=nargs, metavar="FILE", help="a Serve config file")


def lane_arguments(what: str) -> argparse.ArgumentParser:
    """A parent parser: which application of which config file. what: of the file is used."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--config",
        default="configs/laptop.yaml",
        metavar="FILE",
        help=f"the file with the {what} to use (default configs/laptop.yaml)",
    )
    parser.add_argument(
        "--application", metavar="NAME", help="which of the file's applications (default: first)"
    )
    return parser


def a_number(
    least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[str], float]:
    """An argument's type: from `least` up, or above it; finite, and up to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        enough = least < value < math.inf or (value == least and not above)
        if not (enough and value <= most):
            upper = f" to {most:g}" if most < math.inf else "" if above else " up"
            wanted = f"{'above' if above else 'from'} {least:g}{upper}"
            raise argparse.ArgumentTypeError(f"must be a number {wanted}, not {text!r}")
        return value

    return parse


def speaker(*, stderr: bool = False) -> Console:
    """A terminal gets colours; a pipe gets plain lines that are never wrapped."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False)
    if not console.is_terminal:
        console.width = _NEVER_WRAPPED
    return console


def this_user() -> str:
    """`user@host`, for the log of what operators change."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user needs no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


_NEVER_WRAPPED = 10_000  # characters: tables, too, are as wide as what is in them
