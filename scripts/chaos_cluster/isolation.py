"""Namespaces of a run's own for network, mounts and processes: whatever a run starts is gone with
it, however it ends, and nothing that it does to a network reaches the machine's."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

PROGRAMS = ("haproxy", "ip", "iptables", "redis-server", "unshare")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"
_UNSHARE = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_TRY = "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add try"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def missing() -> str | None:
    """Why this machine cannot hold such a cluster; None where it can."""
    if absent := [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]:
        return f"needs {', '.join(absent)} (see .ci/packages)"
    tried = subprocess.run(
        ["unshare", *_UNSHARE, "sh", "-c", _TRY],
        env=_environment(),
        capture_output=True,
        check=False,
    )
    said = tried.stderr.decode(errors="replace").strip()
    return f"needs root with namespaces of its own ({said})" if tried.returncode else None


def run_inside(module: str, arguments: Sequence[str]) -> int:
    """That module of this Python in namespaces of its own; its exit code. They end with it, and
    with this process."""
    command = ["unshare", *_UNSHARE, sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, env=_environment(), preexec_fn=_die_with_parent)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.kill()
        return 128 + process.wait()


def be_first_process() -> None:
    """In the first process of new namespaces: go on as its child, while it takes in what ended
    processes leave behind. When the child has ended, the kernel ends all others."""
    if os.getpid() != 1:
        raise RuntimeError("this is not the first process of a namespace: start it by run_inside")
    child = os.fork()
    if child == 0:
        _lan()
        return

    def hand_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, hand_on)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 255)


def _lan() -> None:
    for command in ("mkdir -p /run/netns", "mount -t tmpfs tmpfs /run/netns", "ip link set lo up"):
        subprocess.run(command.split(), check=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": SEARCH}


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
