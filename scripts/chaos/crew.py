"""The processes of a run without Ray: started, broken on purpose, started again.

They fork from one server that has everything imported, so that a new one costs milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from scripts.chaos import clients, decoding, stages, webhooks
from scripts.chaos.poison import EXIT_CODE
from scripts.chaos.world import World

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["scripts.chaos.clients", "scripts.chaos.stages", "scripts.chaos.webhooks"]
)
BURIED_SECONDS = 10.0


class Process(Protocol):
    """What a crew asks of a process; one of multiprocessing, or of another version of the code."""

    @property
    def pid(self) -> int | None: ...
    @property
    def exitcode(self) -> int | None: ...
    def join(self, timeout: float | None = None) -> None: ...


@dataclass(slots=True)
class Member:
    """One process. wakes_at: when it is let go on, while it is stopped."""

    role: str
    start: Callable[[], Process]
    process: Process
    wakes_at: float | None = None
    killed: bool = False


@dataclass(slots=True)
class Crew:
    """Everybody. crashes: exits that were nobody's fault but our own."""

    world: World
    members: list[Member] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)

    def muster(self, dispatchers: int, clients_count: int, wishes: int) -> None:
        """Start everybody."""
        for i in range(self.world.decoders):
            self._add("decoder", decoding.serve, self.world, i)
        for i in range(dispatchers):
            self._add("dispatcher", stages.dispatch, self.world, f"dispatcher-{i}")
        for i in range(clients_count):
            self._add("client", clients.serve, self.world, f"client-{i}", wishes)
        if webhooks.subscribed(self.world):
            self._add("receiver", webhooks.receive, self.world)
            for _ in range(webhooks.DELIVERERS):
                self._add("deliverer", webhooks.deliver, self.world)

    def _add(self, role: str, run: Callable[..., None], *arguments: Any) -> None:
        def start() -> Process:
            process = _forks.Process(target=run, args=arguments, daemon=True)
            process.start()
            return process

        self.join(role, start)

    def join(self, role: str, start: Callable[[], Process]) -> Member:
        """One more, started now."""
        self.members.append(Member(role, start, start()))
        return self.members[-1]

    def well(self, role: str) -> list[Member]:
        """Those that run and are not stopped."""
        return [m for m in self.members if m.role == role and m.wakes_at is None and not m.killed]

    def kill(self, member: Member) -> None:
        """SIGKILL; `tend` starts it anew."""
        member.killed = True
        _send(member, signal.SIGKILL)

    def stop(self, member: Member, seconds: float) -> None:
        """SIGSTOP; `tend` lets it go on."""
        _send(member, signal.SIGSTOP)
        member.wakes_at = time.monotonic() + seconds

    def tend(self, *, restart: bool = True) -> None:
        """Wake who has slept enough, start who is dead. Call it often."""
        for member in self.members:
            if member.wakes_at is not None and time.monotonic() >= member.wakes_at:
                member.wakes_at = None
                _send(member, signal.SIGCONT)
            code = member.process.exitcode
            if code is None or not restart:
                continue
            if not member.killed and code != EXIT_CODE:
                self.crashes.append(f"{member.role} ended with {code}")
            member.killed = False
            member.process = member.start()

    def pass_time(self, seconds: float) -> None:
        """Tend them for so long."""
        until = time.monotonic() + seconds
        self.tend()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            self.tend()

    def wake(self) -> None:
        """Let everybody go on."""
        for member in self.members:
            member.wakes_at = None
            _send(member, signal.SIGCONT)

    def dismiss(self, members: Sequence[Member] | None = None) -> None:
        """End these, or all."""
        leaving = list(self.members if members is None else members)
        for member in leaving:
            _send(member, signal.SIGKILL)
        for member in leaving:
            member.process.join(BURIED_SECONDS)
        self.members = [m for m in self.members if m not in leaving]


def _send(member: Member, what: signal.Signals) -> None:
    if member.process.exitcode is None and member.process.pid is not None:
        os.kill(member.process.pid, what)
