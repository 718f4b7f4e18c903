"""Processor time of every process below this one, added up by what the process is for."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from serve_app.operate.local_cluster import descendants

TICKS = os.sysconf("SC_CLK_TCK")

DECODER = "decoder replicas"
OTHER = "other processes"
KINDS: tuple[tuple[str, str], ...] = (
    ("gateway", r"^ray::ServeReplica:\S+:Gateway"),
    ("dispatcher", r"^ray::ServeReplica:\S+:Dispatcher"),
    (DECODER, r"^ray::ServeReplica:\S+:Decoder"),
    ("prompt encoder", r"^ray::ServeReplica:\S+:PromptEncoder"),
    ("classifier", r"^ray::ServeReplica:\S+:SafetyClassifier"),
    ("other replicas", r"^ray::ServeReplica"),
    ("Serve's proxy", r"^ray::ProxyActor"),
    ("Serve's controller", r"^ray::ServeController"),
    ("raylet", r"/raylet/raylet "),
    ("GCS", r"/gcs/gcs_server "),
    ("Ray's dashboard", r"^ray-dashboard|dashboard/dashboard\.py|'ray\.dashboard"),
    ("Ray's agents", r"^ray::\w*Agent|dashboard/agent\.py|runtime_env/agent"),
    ("Ray's log monitor", r"/log_monitor\.py"),
    ("Ray's other processes", r"^ray::|/bin/ray start|default_worker|/monitor\.py|ray\.util"),
)
"""What a process is for, by the first pattern that its command line holds. Ray writes the
deployment into the command line of a replica."""

Seconds = Mapping[str, float]
"""Processor seconds by kind of process."""


def kind_of(command: str) -> str:
    """What a process with this command line is for."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, command)), OTHER)


def seconds_by_kind(pids: Iterable[int] | None = None) -> Seconds:
    """What these processes, by default all below this one, have used, and their children that have
    ended: those count for the process that waited for them. One of no known kind is its parent's,
    as the process in which a replica runs its models."""
    used: Counter[str] = Counter()
    pids = list(descendants(os.getpid()) if pids is None else pids)
    for pid in pids:
        used[_kind(pid, pids)] += cpu_ticks(pid)
    return {kind: ticks / TICKS for kind, ticks in used.items()}


def _kind(pid: int, among: Sequence[int]) -> str:
    kind = kind_of(_command(pid))
    if kind is not OTHER:
        return kind
    parent = int((_stat(pid) or ["", "0"])[1])
    return _kind(parent, among) if parent in among else OTHER


def since(before: Seconds, now: Seconds) -> dict[str, float]:
    """What was used in between, the most first."""
    used = {kind: now.get(kind, 0.0) - before.get(kind, 0.0) for kind in {*before, *now}}
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def cpu_ticks(pid: int) -> int:
    """0 when it has ended meanwhile."""
    return sum(int(field) for field in _stat(pid)[11:15])


def _stat(pid: int) -> list[str]:
    """Its fields in /proc from the state on; none when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
