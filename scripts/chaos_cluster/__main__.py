"""`python -m scripts.chaos_cluster [--short] [--only STAGE ...]`: several nodes under load, broken
stage by stage; the last line is one JSON object. Needs root; nothing else should run meanwhile."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from scripts.chaos_cluster.isolation import be_first_process, missing, run_inside
from scripts.chaos_cluster.run import Plan, run
from scripts.chaos_cluster.stages import STAGES, WHOLE

MODULE = "scripts.chaos_cluster"
ROUNDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Break a cluster of nodes; prove nothing is lost.")
    parser.add_argument("--short", action="store_true", help="each stage once")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, metavar="STAGE", help=", ".join(STAGES)
    )
    parser.add_argument(
        "--nodes", type=int, default=3, choices=(2, 3), help="workers beside the head"
    )
    parser.add_argument("--one-database", action="store_true", help="no Patroni, and no failover")
    parser.add_argument("--keep", type=Path, help="leave logs and records in this folder")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is None:
        if (why := missing()) is not None:
            sys.exit(f"chaos-cluster: {why}")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder goes
        with tempfile.TemporaryDirectory(prefix="mp-cc-", ignore_cleanup_errors=True) as folder:
            sys.exit(run_inside(MODULE, [*sys.argv[1:], "--inside", folder]))
    be_first_process()
    plan = Plan(
        stages=tuple(options.only or WHOLE),
        rounds=1 if options.short or options.only else ROUNDS,
        nodes=options.nodes,
        patroni=not options.one_database,
        keep=options.keep,
    )
    found = run(options.inside, plan)
    sys.exit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
