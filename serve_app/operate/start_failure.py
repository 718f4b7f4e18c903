"""Why a local cluster did not start: from what its processes wrote to the one cause a user can do
something about. Pure, but for reading logs."""

from __future__ import annotations

import re
from pathlib import Path

LINES = 20
CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("No space left on device", "Disk quota exceeded"),
        "a disk is full: free some of it, or name a folder on another one with TMPDIR",
    ),
    (
        ("Cannot allocate memory", "MemoryError", "bad_alloc", "exit code=-9", "exit code=137"),
        "memory ran out, or something killed a process: end other programs, or give the container "
        "more memory",
    ),
    (
        ("ddress already in use", "port is already in use", "ailed to bind"),
        "a port was taken meanwhile by another program: start again",
    ),
    (
        ("Too many open files", "Resource temporarily unavailable", "can't start new thread"),
        "the system's limit of open files or processes is reached: raise it (ulimit -n, ulimit -u)",
    ),
    (
        ("Read-only file system", "Permission denied"),
        "a folder cannot be written; the line below that says so names it",
    ),
)
_DIED = re.compile(r"^\s+(\w+) \[exit code=\S+\]", re.MULTILINE)
_EXITS = "Some Ray subprocesses exited unexpectedly"


def cause(text: str) -> str | None:
    """What logs give away, in words; None where they name nothing that is known here."""
    return next((advice for signs, advice in CAUSES if any(s in text for s in signs)), None)


def refusal(url: str, status: int) -> str | None:
    """What an answer of the dashboard's address means, where waiting on cannot help."""
    if status in (401, 403):
        return (
            f"what answers at {url} asks for a token, and the cluster that was just started does "
            "not: another Ray cluster has that port. Name another one with --dashboard-port"
        )
    return None


def report(what: str, temp_dir: Path) -> str:
    """what: the sentence that begins it. The cause, where it is known, and the end of the log of
    the process that died, or else of the head's."""
    head = read(temp_dir / "head.log")
    died = _DIED.findall(head[head.find(_EXITS) :]) if _EXITS in head else []
    logs = temp_dir / "session_latest" / "logs"
    found = [logs / f"{name}{end}" for name in dict.fromkeys(died) for end in (".log", ".err")]
    shown = next((log for log in found if read(log).strip()), temp_dir / "head.log")
    text = last_lines(read(shown))
    known = cause(text) or cause(last_lines(head, 60))
    ended = f" ({', '.join(dict.fromkeys(died))} ended)" if died else ""
    lines = [f"{what}{ended}{f': {known}' if known else ''}", f"{shown} ends with:", text]
    return "\n".join(lines)


def timed_out(temp_dir: Path) -> bool:
    """Whether Ray gave up waiting for its own processes, which another start may well survive."""
    return "timed out during startup" in read(temp_dir / "head.log")


def read(log: Path) -> str:
    """A log without colours; nothing where there is none."""
    try:
        return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    except OSError:
        return ""


def last_lines(text: str, lines: int = LINES) -> str:
    """The end of a text."""
    return "\n".join(text.strip().splitlines()[-lines:])
