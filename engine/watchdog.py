"""Ends this process when its decoder does not come back, so that it is replaced. No health check
can be answered while a pass holds the interpreter lock: then nothing else of Python runs."""

from __future__ import annotations

import faulthandler
import threading

from engine.engine import DecoderEngine

_STDERR = 2
_LOOKS = 8  # within the limit
_AT_ONCE_SECONDS = 0.001


class Watchdog:
    """Of the one engine of a process that may be ended.

    A thread looks how long the decoder has been at the same pass or pixels, and sets a timer of
    faulthandler to what is left of the limit. That timer needs no interpreter lock: unless it is
    set again it writes the stack of every thread to stderr and ends the process with code 1.
    """

    def __init__(self, engine: DecoderEngine, limit_seconds: float) -> None:
        """limit_seconds: of one pass; one that holds the interpreter lock has 1/8 less at worst."""
        self._engine = engine
        self._limit_seconds = limit_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decoder-watchdog", daemon=True)

    def start(self) -> None:
        """Watch until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Let the process live."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            left = self._limit_seconds - self._engine.stuck_seconds
            faulthandler.dump_traceback_later(max(left, _AT_ONCE_SECONDS), exit=True, file=_STDERR)
            pause = self._limit_seconds / _LOOKS
        faulthandler.cancel_dump_traceback_later()
