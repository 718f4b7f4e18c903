"""A Redis of its own, with a password: what keeps a Ray head's state when the head dies."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scripts.children import await_start, listens
from serve_app.operate.local_cluster import end_with_parent

START_SECONDS = 30.0


class RedisMissing(RuntimeError):
    """The server's program is not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """address: host:port."""

    address: str
    password: str = field(repr=False)


@contextmanager
def redis_server(folder: Path, host: str, port: int) -> Iterator[RedisServer]:
    """Up while the block runs; every write is on disk before it is answered. folder: where its data
    and its log go. Raises RedisMissing, TimeoutError."""
    program = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
    if program is None:
        raise RedisMissing("Redis is not installed (apt-get install redis-server)")
    folder.mkdir(parents=True, exist_ok=True)
    password = "of-this-run"
    options = {
        "bind": host, "port": port, "dir": folder, "requirepass": password, "appendonly": "yes",
        "appendfsync": "always", "save": "",
    }  # fmt: skip
    command = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, *command], stdout=log, stderr=log, preexec_fn=end_with_parent
        )
    try:
        there = partial(listens, host, port)
        await_start("Redis", server, there, folder / "server.log", START_SECONDS)
        yield RedisServer(f"{host}:{port}", password)
    finally:
        server.kill()
        server.wait()
