"""`python -m scripts.chaos [--quick]`: break things, come to rest, audit; the last line is one JSON
object. Nothing else should run on the machine meanwhile."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from scripts.chaos.batches import batches
from scripts.chaos.databases import DATABASES, USUAL
from scripts.chaos.previous import HistoryMissing
from scripts.chaos.rolling import rolling_update
from scripts.chaos.serving import serving
from scripts.chaos.storm import passes_redone, weather
from scripts.report import say


def main() -> None:
    parser = argparse.ArgumentParser(description="Break things under load; prove nothing is lost.")
    parser.add_argument("--databases", nargs="*", default=USUAL, choices=DATABASES)
    parser.add_argument("--minutes", type=float, default=24.0, help="of faults without Ray")
    parser.add_argument("--quick", action="store_true", help="a minute, without Ray")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--kills", type=int, help="in Ray; 56, or none with --quick")
    parser.add_argument("--ray-minutes", type=float, default=9.0, help="give up killing after that")
    parser.add_argument("--config", type=Path, default=Path("configs/paced.yaml"), help="of Ray")
    parser.add_argument("--keep", type=Path, help="leave what the runs wrote in this folder")
    options = parser.parse_args()
    if options.kills is None:
        options.kills = 0 if options.quick else 56
    began = time.monotonic()
    seconds = 60 * (0.5 if options.quick else options.minutes) / max(1, len(options.databases))
    report: dict[str, Any] = {}
    for name in options.databases:
        report[name] = weather(name, seconds, options.seed, options.keep)
        say(f"{name}: {json.dumps(report[name])}")
        report[name] |= passes_redone(name, 1 if options.quick else 5, options.keep)
        try:
            updated = rolling_update(name, 10 if options.quick else 60, options.seed, options.keep)
        except HistoryMissing as missing:
            say(f"{name}, rolling update: left out: {missing}")
        else:
            report[f"{name}, rolling update"] = updated
            say(f"{name}, rolling update: {json.dumps(updated)}")
    if options.kills:
        report["ray"] = serving(options.kills, options.ray_minutes * 60, options.config)
        say(f"ray: {json.dumps(report['ray'])}")
    parts = list(report.values())
    for key in ("faults", "lost", "webhooks_lost", "doubled", "miscounted", "poison_left"):
        report[key] = sum(part[key] for part in parts)
    report["batches"] = batches(2 if options.quick else 12, options.seed)
    say(f"batches: {json.dumps(report['batches'])}")
    report["lines_twice"] = report["batches"]["lines_twice"]
    report["lost"] += report["batches"]["lost"]
    report["seconds"] = round(time.monotonic() - began, 1)
    say(json.dumps(report))


if __name__ == "__main__":
    main()
