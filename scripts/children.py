"""Processes of a bench, talked to in lines of text or by HTTP; they are gone when it is done with
them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from serve_app.operate.local_cluster import descendants, end_leftovers

START_SECONDS = 120.0
STOP_SECONDS = 15.0
Child = subprocess.Popen[str]


class ClosedAtEnd(ABC):
    """A context manager that closes itself."""

    @abstractmethod
    def close(self) -> None:
        """End everything, and delete its data."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def end(process: subprocess.Popen[Any], how: signal.Signals, seconds: float) -> None:
    """With that signal, and killed when it is still there after so long."""
    process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def installed(name: str) -> str | None:
    """The path of a program beside this Python, or where programs are looked for."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def await_start(
    name: str,
    started: subprocess.Popen[bytes],
    answers: Callable[[], bool],
    log: Path,
    seconds: float = START_SECONDS,
) -> None:
    """Until a server answers. TimeoutError with the end of its log when it ends before, or takes
    longer."""
    deadline = time.monotonic() + seconds
    while not answers():
        if started.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:]
            raise TimeoutError(f"{name} did not start: {said}")
        time.sleep(0.05)


def listens(host: str, port: int) -> bool:
    """Whether connections are taken there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


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


@contextmanager
def server(
    port: int, command: Sequence[str], health: str, *, python: str = sys.executable, **options: Any
) -> Iterator[str]:
    """The URL of this Python, or another, with these arguments, which listens on that port of
    loopback, once it answers at the path `health` with less than 500. options: of Popen."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([python, *command], start_new_session=True, **options)
    try:
        _await_health(process, url + health)
        yield url
    finally:
        below = descendants(process.pid)
        end(process, signal.SIGTERM, STOP_SECONDS)
        end_leftovers(below, 2.0)


def _await_health(process: subprocess.Popen[Any], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2, trust_env=False).status_code < 500:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} did not start (exit code {process.poll()})")
