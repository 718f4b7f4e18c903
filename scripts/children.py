"""Processes of a bench, talked to in lines of text; they are gone when it is done with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Child = subprocess.Popen[str]


@contextmanager
def children(commands: Sequence[Sequence[str]], **options: Any) -> Iterator[list[Child]]:
    """One of this Python for each list of arguments, killed at the end. options: of Popen."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [
        subprocess.Popen([sys.executable, *command], text=True, **pipes, **options)
        for command in commands
    ]
    try:
        yield running
    finally:
        for child in running:
            child.kill()
            child.communicate()


def await_ready(running: Sequence[Child]) -> None:
    """Until each has printed the line `ready`. RuntimeError when one prints something else."""
    for child in running:
        if (said := read_line(child)) != "ready":
            raise RuntimeError(f"{child.args!r} said {said!r}")


def read_line(child: Child) -> str:
    """Its next line. RuntimeError when it has ended."""
    assert child.stdout is not None
    if not (line := child.stdout.readline()):
        raise RuntimeError(f"{child.args!r} ended with {child.wait()}")
    return line.strip()


def tell(child: Child, line: str) -> None:
    """One line to its standard input."""
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()
