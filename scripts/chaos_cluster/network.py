"""Machines as network namespaces: each has an address of its own behind a bridge, and its own
processes, which can be killed together; its cable can be cut, in one direction too."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

PREFIX = "10.77.0"
"""Of the bridge's network, which exists in the run's own namespace alone."""
HERE = f"{PREFIX}.1"
"""Where the servers beside the cluster listen."""
_BRIDGE = "lan"
_GONE_SECONDS = 20.0


class Network:
    """A bridge in this namespace, and machines behind it. Needs root, and `isolation`."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        _ip(f"link add {_BRIDGE} type bridge")
        _ip(f"address add {HERE}/24 dev {_BRIDGE}")
        _ip(f"link set {_BRIDGE} up")

    def add(self, name: str) -> str:
        """A machine of that name; its address."""
        if name in self._addresses:
            return self._addresses[name]
        address = self._addresses[name] = f"{PREFIX}.{10 + len(self._addresses)}"
        _ip(f"netns add {name}")
        _ip(f"link add to-{name} type veth peer name eth0 netns {name}")
        _ip(f"link set to-{name} master {_BRIDGE} up")
        _ip(f"-n {name} address add {address}/24 dev eth0")
        for device in ("lo", "eth0"):
            _ip(f"-n {name} link set {device} up")
        return address

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command line that runs a command on that machine."""
        return ["ip", "netns", "exec", name, *command]

    def pids(self, name: str) -> set[int]:
        """Everything that runs on it."""
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=True)
        return {int(pid) for pid in found.stdout.split()}

    def kill(self, name: str) -> set[int]:
        """SIGKILL of everything on it, as when its power goes; the pids. Returns when all are
        gone."""
        killed: set[int] = set()
        deadline = time.monotonic() + _GONE_SECONDS
        while (alive := self.pids(name)) and time.monotonic() < deadline:
            for pid in alive - killed:  # what is starting just then comes in the next round
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= alive
            time.sleep(0.05)
        return killed

    def cut(self, name: str, *, hears: bool = False, speaks: bool = False) -> None:
        """Drop silently what comes in, unless it still hears, and what goes out, unless it still
        speaks."""
        for chain, kept, device in (("INPUT", hears, "-i"), ("OUTPUT", speaks, "-o")):
            if not kept:
                rule = f"iptables -w -A {chain} {device} eth0 -j DROP"
                subprocess.run(self.inside(name, rule.split()), check=True)

    def heal(self, name: str) -> None:
        """As before `cut`."""
        subprocess.run(self.inside(name, ["iptables", "-w", "-F"]), check=True)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
