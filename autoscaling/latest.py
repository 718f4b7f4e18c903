"""The newest answer to a slow question, for callers that must not wait for it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

log = logging.getLogger("ray.serve")

T = TypeVar("T")

Ask = Callable[[], T]


@dataclass(slots=True)
class _Cell(Generic[T]):
    """Written by the thread, read by others: one reference, so that no lock is needed."""

    answer: tuple[float, T] | None = None
    problem: str = "nothing was read yet"


class Latest(Generic[T]):
    """Asks again and again on a thread of its own, for as long as this object lives.

    connect: what to ask, within a context that is entered again after every failure. An answer is
    given out for `fresh_seconds`.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Ask[T]]],
        every_seconds: float,
        fresh_seconds: float,
    ) -> None:
        self._cell: _Cell[T] = _Cell()
        self._fresh_seconds = fresh_seconds
        ended = threading.Event()
        # The thread must not know `self`, or this object would never be collected.
        arguments = (connect, self._cell, ended, every_seconds)
        threading.Thread(target=_ask_on, args=arguments, daemon=True, name="latest").start()
        weakref.finalize(self, ended.set)

    @property
    def answer(self) -> tuple[float, T] | None:
        """When it was given (monotonic) and what it was; None when it is too old, or none came."""
        found = self._cell.answer
        if found is None or time.monotonic() - found[0] > self._fresh_seconds:
            return None
        return found

    @property
    def problem(self) -> str:
        """Why there is no answer."""
        return self._cell.problem


def _ask_on(
    connect: Callable[[], AbstractContextManager[Ask[T]]],
    cell: _Cell[T],
    ended: threading.Event,
    every_seconds: float,
) -> None:
    while not ended.is_set():
        try:
            with connect() as ask:
                while not ended.is_set():
                    asked_at = time.monotonic()
                    cell.answer = (asked_at, ask())
                    cell.problem = f"it is silent for {every_seconds:g} s and more"
                    ended.wait(every_seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must go on asking
            cell.problem = f"{type(error).__name__}: {error}"
            ended.wait(every_seconds)
