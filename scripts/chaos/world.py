"""What every process of a chaos run knows: where everything is, what time it is, the tiers.

The clock is the machine's plus an offset in a shared file, so that a jump is seen by all at once.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.ledger_errors import LedgerUnavailable
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier

LANE = "chat"
HOUR = 3600.0
TIERS = {"free": Tier(weight=1.0, images_per_day=60), "pro": Tier(weight=4.0)}
ATTEMPTS = 5
CALL_SECONDS = 2.0
"""Of a call of a stage that is no decoder."""
WATCH_GRACE_SECONDS = 8.0
POISON = 53
"""Every so many seeds a picture that no decoder can draw."""


@dataclass(frozen=True, slots=True)
class World:
    """folder: for logs, sockets and blobs. url: of the ledger. decoders, slots: how many."""

    folder: Path
    url: str
    lease_seconds: float = 2.0
    heartbeat_seconds: float = 0.5
    pass_ms: float = 50.0
    decoders: int = 3
    slots: int = 6

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def sockets(self) -> list[Path]:
        return [self.folder / f"decoder-{i}.sock" for i in range(self.decoders)]

    @property
    def stop_file(self) -> Path:
        """Clients take nothing new on once it exists."""
        return self.folder / "stop"

    def prepare(self) -> None:
        """Make the directories and the clock."""
        for name in ("blobs", "passes", "received", "told"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "clock").write_bytes(struct.pack("<d", 0.0))

    def jump(self, seconds: float) -> None:
        """Let everybody's clock jump, back if negative."""
        path = self.folder / "clock"
        (now,) = struct.unpack("<d", path.read_bytes())
        with path.open("r+b") as file:
            file.write(struct.pack("<d", now + seconds))

    def clock(self) -> Callable[[], float]:
        """Seconds since the epoch, jumps included."""
        with (self.folder / "clock").open("rb") as file:
            offset = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
        return lambda: time.time() + float(struct.unpack("<d", offset[:8])[0])

    def ledger(self) -> SqlLedger:
        """A client of the ledger, however long it is away at first."""
        while True:
            try:
                return SqlLedger(
                    self.url, tiers=TIERS, attempts_max=ATTEMPTS, clock=self.clock(),
                    watch_grace_seconds=WATCH_GRACE_SECONDS,
                )  # fmt: skip
            except LedgerUnavailable:
                time.sleep(0.2)

    def speak(self) -> None:
        """In a process of the run: its log goes to a file."""
        logging.basicConfig(
            filename=self.folder / "log", format="%(asctime)s %(process)d %(name)s %(message)s"
        )

    def log(self, kind: str) -> Log:
        """This process's own log of a kind, `passes` or `told`."""
        return Log(self.folder / kind / f"{os.getpid()}-{time.monotonic_ns()}")

    def told(self) -> Iterator[dict[str, Any]]:
        """Everything that clients wrote down."""
        for path in sorted((self.folder / "told").iterdir()):
            for line in path.read_text().splitlines():
                yield json.loads(line)

    def passes(self) -> Iterator[tuple[float, str, int]]:
        """(time, render id, pass) of every pass that a decoder has made."""
        for path in sorted((self.folder / "passes").iterdir()):
            for line in path.read_text().splitlines():
                at, render_id, pass_no = line.split()
                yield float(at), render_id, int(pass_no)


def left(ledger: SqlLedger) -> int:
    """Jobs of the lane that have not ended."""
    depth = ledger.depth(LANE)
    return depth.queued_jobs + depth.active_jobs


class Log:
    """Whole lines appended in one write each: a kill leaves no half of one."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, lines: str) -> None:
        """One or more whole lines."""
        os.write(self._file, lines.encode())

    def note(self, what: str, **facts: object) -> None:
        """One fact as JSON, with the machine's time."""
        self.write(json.dumps({"what": what, "at": time.time()} | facts) + "\n")


def wish(tenant: str, tier: str, **changes: Any) -> ImageRequest:
    """A request as a gateway would make it."""
    fields: dict[str, Any] = {
        "lane": LANE, "tenant": tenant, "tier": tier, "model": "paced", "prompt": "a red fox",
        "n": 1, "width": 128, "height": 128, "quality": "auto", "passes": 8, "guidance": 3.0,
        "seed": 7,
    }  # fmt: skip
    return ImageRequest(**(fields | changes))
