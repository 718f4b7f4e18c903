"""The process behind engine.worker: builds its object, then answers one call after the other.

Both ends are this code on this machine, and calls hold text and numbers: pickle is safe here.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**25
"""Of freed memory: pictures are larger than what glibc keeps for the next call, and their pages
would be asked for, and cleared, again and again."""
Answer = tuple[str | None, Any]
"""What failed, or what was answered."""


def main(_: str) -> None:
    """Requests on stdin, answers on what was stdout, until stdin ends."""
    with suppress(AttributeError):  # Linux alone
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    build, arguments = pickle.load(requests)
    failure, target = _tried(lambda: _built(build, arguments))
    _send(answers, (failure, None))
    while failure is None:
        try:
            method, arguments, cpu_seconds = pickle.load(requests)
        except EOFError:
            return
        _allow_cpu(cpu_seconds)
        call, given = getattr(target, method), arguments
        _send(answers, _tried(lambda call=call, given=given: call(*given)))  # type: ignore[misc]


def _built(build: str, arguments: Mapping[str, Any]) -> Any:
    module, _, name = build.partition(":")
    return getattr(import_module(module), name)(**arguments)


def _tried(work: Callable[[], Any]) -> Answer:
    try:
        return None, work()
    except Exception as error:  # noqa: BLE001  # the parent decides what it means
        return f"{type(error).__name__}: {error}", None


def _send(answers: Any, answer: Answer) -> None:
    pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()


def _allow_cpu(seconds: int) -> None:
    """For the call to come; SIGXCPU ends a process that takes more."""
    spent = int(time.process_time()) + 1
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, most))
