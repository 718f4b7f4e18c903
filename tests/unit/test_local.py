"""The local cluster's head process, without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from serve_app.operate.local_cluster import alive, end_leftovers

PARENT = """
import subprocess, sys, time
from serve_app.operate.local_cluster import end_with_parent
child = subprocess.Popen(["sleep", "600"], start_new_session=True, preexec_fn=end_with_parent)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of that")
def test_the_head_ends_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    try:
        for _ in range(1000):
            if not alive(child):
                break
            time.sleep(0.01)
        assert not alive(child)
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)


def test_leftovers_are_gone_when_they_were_killed() -> None:
    left = [subprocess.Popen(["sleep", "600"]) for _ in range(4)]
    end_leftovers([process.pid for process in left], 0.0)
    assert not any(alive(process.pid) for process in left)
    assert [process.wait() for process in left] == [-signal.SIGKILL] * 4
