"""What code that took over the decoding process could still do: tried from inside."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from engine.untrusted.syscalls import ARCHITECTURES

INSIDE = """
import ctypes, json, os, resource, signal, socket, sys, threading
from engine.untrusted.budget import Budget
from engine.untrusted.child import _lock_in

parent, mine = int(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
_lock_in(Budget())

def refused(did):
    try:
        return "no" if did() == -1 else "YES"
    except (OSError, ValueError):
        return "no"

tries = {
    "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "read a file after closing another": lambda: os.close(2) or os.open(mine, os.O_RDONLY),
    "write a file": lambda: os.open(mine, os.O_WRONLY | os.O_CREAT),
    "list a folder": lambda: os.listdir("/"),
    "delete a file": lambda: os.unlink(mine),
    "rename a file": lambda: os.rename(mine, mine + "2"),
    "shorten a file": lambda: os.truncate(mine, 0),
    "change a file's mode": lambda: os.chmod(mine, 0o777),
    "make a folder": lambda: os.mkdir(mine + "-folder"),
    "open a socket": lambda: socket.socket(),
    "fork": lambda: os.fork() or os._exit(0),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "kill its parent": lambda: os.kill(parent, 0),
    "read its parent's memory": lambda: libc.process_vm_readv(parent, 0, 0, 0, 0, 0),
    "limit its parent": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "raise its own memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)),
    "become root": lambda: os.setuid(0),
}
said = {name: refused(did) for name, did in tries.items()}
thread = threading.Thread(target=lambda: said.update({"a thread": "runs"}))
thread.start()
thread.join()
print(json.dumps(said))
"""


@pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason="no table of system calls")
def test_nothing_can_be_reached_from_inside(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("kept")
    mine.chmod(0o666)
    tmp_path.chmod(0o777)
    command = [sys.executable, "-c", INSIDE, str(os.getpid()), str(mine)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said.pop("a thread") == "runs"  # the WebP decoder wants some
    assert len(said) == 17
    assert set(said.values()) == {"no"}, said
    assert mine.read_text() == "kept"
