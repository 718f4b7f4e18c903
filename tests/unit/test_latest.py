"""A thread that asks, for somebody who must not wait."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from autoscaling.latest import Latest


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Source:
    """Counts, until it is told to fail or to hang."""

    def __init__(self) -> None:
        self.connected = self.closed = self.asked = 0
        self.fails = False
        self.free = threading.Event()
        self.free.set()

    @contextmanager
    def connect(self) -> Iterator[Callable[[], int]]:
        self.connected += 1
        try:
            yield self._ask
        finally:
            self.closed += 1

    def _ask(self) -> int:
        self.free.wait()
        if self.fails:
            raise OSError("the disk is gone")
        self.asked += 1
        return self.asked


def test_the_newest_answer_is_given() -> None:
    source = Source()
    latest = Latest(source.connect, every_seconds=0.01, fresh_seconds=60.0)
    wait_until(lambda: latest.answer is not None and latest.answer[1] > 3)
    assert source.connected == 1


def test_a_failure_is_told_and_the_connection_made_anew() -> None:
    source = Source()
    source.fails = True
    latest = Latest(source.connect, every_seconds=0.01, fresh_seconds=60.0)
    wait_until(lambda: source.connected > 1)
    assert latest.answer is None
    assert latest.problem == "OSError: the disk is gone"
    source.fails = False
    wait_until(lambda: latest.answer is not None)


def test_an_old_answer_is_none_and_a_hanging_question_holds_nobody_up() -> None:
    source = Source()
    latest = Latest(source.connect, every_seconds=0.01, fresh_seconds=0.2)
    wait_until(lambda: latest.answer is not None)
    source.free.clear()
    wait_until(lambda: latest.answer is None)
    assert latest.problem
    source.free.set()
    wait_until(lambda: latest.answer is not None)


@pytest.mark.parametrize("fails", [False, True])
def test_the_thread_ends_with_its_owner(fails: bool) -> None:
    source = Source()
    source.fails = fails
    latest = Latest(source.connect, every_seconds=0.01, fresh_seconds=60.0)
    wait_until(lambda: source.connected > 0)
    del latest

    def ended() -> bool:
        gc.collect()
        return not any(thread.name == "latest" for thread in threading.enumerate())

    wait_until(ended)
    assert source.closed == source.connected
