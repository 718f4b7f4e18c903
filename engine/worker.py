"""Models that read what clients send run in a process that can be killed: a call that ends it or
takes too long fails alone, and the calls after it find a new process.

Blocking; one thread owns a Worker, and its process dies with that thread.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.child_process import ChildProcess

MODULE = "engine.worker_process"
_ENDS = "its process ends or takes too long"


class ItemFailed(Exception):
    """This very call raises, ends its process or takes too long; others do not."""


class WorkerBroken(Exception):
    """No process can be started any more, or none at all: the models do not load."""


class _Died(Exception):
    """The process ended during a call, for a reason that need not be the call."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Of one call, far above what any takes."""

    cpu_seconds: int = 10
    """Processor time of all its threads together."""
    wall_seconds: float = 20.0
    """On the clock, for a call that hangs."""
    start_seconds: float = 120.0
    """Until the models are loaded."""


LIMITS = CallLimits()


class Worker:
    """build: "module:name" of what the process makes once, with `arguments`, and whose methods are
    called. WorkerBroken when that raises; the message says what."""

    def __init__(
        self, build: str, arguments: Mapping[str, Any], limits: CallLimits = LIMITS
    ) -> None:
        self._build = build
        self._arguments = dict(arguments)
        self._limits = limits
        self._child: ChildProcess | None = self._start()

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        child = self._child
        return child.pid if child is not None and child.alive else None

    def call(self, method: str, *arguments: Any) -> Any:
        """What the method answers. A process that only died gets a second chance with the same
        call, as something else may have killed it. ItemFailed, WorkerBroken."""
        try:
            return self._ask(method, arguments)
        except _Died:
            pass
        try:
            return self._ask(method, arguments)
        except _Died as died:
            raise ItemFailed(f"{method} ended its process twice: {died}") from None

    def call_each(self, method: str, items: Sequence[Any]) -> list[Any]:
        """The method of one list, which answers a list of the same length. Where that fails, every
        item is tried alone, and an ItemFailed stands in the place of those at fault."""
        with suppress(ItemFailed, _Died):
            answers: list[Any] = self._ask(method, (list(items),))
            return answers
        return [self._alone(method, item) for item in items]

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _alone(self, method: str, item: Any) -> Any:
        try:
            (answer,) = self.call(method, [item])
        except ItemFailed as failed:
            return failed
        return answer

    def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        child = self._child
        if child is None or not child.alive:
            self.close()
            child = self._child = self._start()
        try:
            with child.within(self._limits.wall_seconds):
                _send(child, (method, arguments, self._limits.cpu_seconds))
                failure, answer = pickle.load(child.answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            self._child = None
            ended_by = child.kill()
            if ended_by == signal.SIGXCPU:
                reason = f"{method} takes more than {self._limits.cpu_seconds} s of processor time"
                raise ItemFailed(reason) from None
            raise _Died(f"signal {ended_by}") from None
        if failure is not None:
            raise ItemFailed(f"{method}: {failure}")
        return answer

    def _start(self) -> ChildProcess:
        child = ChildProcess(MODULE)
        failure: str | None = _ENDS
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            with child.within(self._limits.start_seconds):
                _send(child, (self._build, self._arguments))
                said, _ = pickle.load(child.answers)
                failure = said or _ENDS  # one that says why it does not start may be gone by now
            failure = said
        if failure is not None:
            child.kill()
            raise WorkerBroken(f"{self._build} does not start: {failure}")
        return child


def _send(child: ChildProcess, message: object) -> None:
    pickle.dump(message, child.requests, protocol=pickle.HIGHEST_PROTOCOL)
    child.requests.flush()
