"""`make fuzz`: schemathesis over our OpenAPI document, then every hostile file through every door
and prompts that are built to take time.

The service is real: HTTP, SQLite, and the paced family through the whole pipeline. The last line is
one JSON object. `--quick` is a small, seeded run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from engine.intake import Budget
from tests.fuzz.hostile import hostile_files
from tests.fuzz.prompts import ADVERSARIAL
from tests.fuzz.properties import FULL, QUICK, schemathesis
from tests.fuzz.running import service
from tests.fuzz.untrusted import order, send

MIB = 2**20
SERVER_BYTES = 768 * MIB
"""More than this the server itself never needs; torch and its like are not in it."""
QUICK_STEP = 61
"""A quick run sends one hostile file of so many."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the HTTP surface.")
    parser.add_argument("--quick", action="store_true", help="a small, seeded run")
    quick = parser.parse_args().quick
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mp-fuzz-") as name, service(Path(name)) as running:
        tried = schemathesis(running.url, Path(name), QUICK if quick else FULL)
        print(tried.said)
        refused = send(running.url, islice(hostile_files(), 0, None, QUICK_STEP if quick else 1))
        ordered = order(running.url, ADVERSARIAL, quick=quick)
        log = (Path(name) / "server.log").read_text()
    wrong = [*refused.wrong, *ordered.wrong]
    for what, peak, limit in (
        ("the server", running.server_peak_bytes, SERVER_BYTES),
        ("its child that decodes", running.child_peak_bytes, Budget().memory_bytes),
    ):
        print(f"{what}: at most {peak / MIB:.0f} MiB resident, {limit / MIB:.0f} allowed")
        if peak > limit:
            wrong.append(f"{what} took {peak} bytes")
    wrong += [line for line in log.splitlines() if "Traceback" in line]
    print(f"{refused.files} hostile files refused, {refused.pictures} odd ones are pictures")
    print(f"{refused.requests} requests: {refused.codes}")
    print(f"{ordered.requests} texts that are built to take time: {ordered.codes}")
    print("\n".join(wrong))
    print(f"{time.monotonic() - start:.0f} s")
    result = {
        "schemathesis_cases": tried.cases,
        "schemathesis_failures": tried.failures,
        "hostile_files": refused.files,
        "hostile_prompts": ordered.requests,
        "crashes": len(wrong),
    }
    print(json.dumps(result))
    sys.exit(bool(tried.failures or wrong))


if __name__ == "__main__":
    main()
