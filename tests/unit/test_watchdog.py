"""A decoder that does not come back ends its process, whatever it holds; each in a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import ctypes, sys, threading, time
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.watchdog import Watchdog
from tests.stages.engine_kit import Heard, spec
from engine.render import UpdateKind

def holds_the_lock(_): ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the interpreter lock
def waits_for_ever(_): threading.Event().wait()

sleep = {"lock": holds_the_lock, "wait": waits_for_ever, "work": time.sleep}[sys.argv[1]]
engine = DecoderEngine(PacedDecoder(400, 0, sleep=sleep), 1, heard := Heard())
watchdog = Watchdog(engine, float(sys.argv[2]))
watchdog.start()
engine.start()
engine.add(spec("a", passes=11))
heard.wait_for(UpdateKind.DONE, "a")
watchdog.stop()
engine.stop()
print("all passes are done")
"""


def child(decoder: str, limit_seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, decoder, str(limit_seconds)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("held", ["lock", "wait"])
def test_a_pass_that_does_not_end_ends_the_process(held: str) -> None:
    ended = child(held, 1.0)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "in step" in ended.stderr, "the stack says where it was"


def test_passes_that_end_keep_it_alive_however_many() -> None:
    """Eleven of 0.4 s, under a limit of 4 s."""
    ended = child("work", 4.0)
    assert (ended.returncode, ended.stdout) == (0, "all passes are done\n")
