"""One abuse in a process of its own: prepares, says "ready", attacks for a number of seconds after
a line on standard input, and prints the statuses that it was answered with as one JSON object.

    python -m scripts.neighbour.attacker URL ABUSE SECONDS
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections import Counter

from scripts.neighbour.abuses import ABUSES, KEYS, Attack

POLICY = os.SCHED_IDLE
"""The generator shares two processors with the service; what it costs itself is no abuse. Ray runs
its workers at niceness 15, so that any other positive niceness would still come before them."""


async def attack(url: str, name: str, seconds: float) -> Counter[str]:
    """Prepare, wait for the word, attack; the statuses by count, 0 for a broken connection."""
    abuse, tools = ABUSES[name], Attack(url, KEYS[name])
    try:
        await abuse.prepare(tools)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        tools.statuses.clear()
        await abuse.attack(tools, seconds)
        return Counter({str(status): count for status, count in tools.statuses.items()})
    finally:
        await tools.close()


def main() -> None:
    url, name, seconds = sys.argv[1:]
    os.sched_setscheduler(0, POLICY, os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(attack(url, name, float(seconds)))), flush=True)


if __name__ == "__main__":
    main()
