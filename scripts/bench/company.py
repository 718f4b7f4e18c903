"""`python -m scripts.bench.company`: what a picture costs beside its passes, in CPU seconds.

Everything that our side's processes use at saturation, Ray's own included, less what the same
passes and pixels cost in as many bare engines with the same threads and slots. What processes use
while nothing is drawn is a part of it, and printed beside it. Prints a table by kind of process,
and one JSON object on the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.bench import sides
from scripts.bench.kinds import DECODER, Seconds, seconds_by_kind, since
from scripts.bench.measure import Saturation, saturate, warm
from scripts.bench.tuning import started
from scripts.cluster import Config, args_of
from scripts.report import rich_table, say
from serve_app.config.cluster import parse_cluster_config
from serve_app.config.serve_file import load_serve_config

SETTLE_SECONDS = 2.0
IDLE_SECONDS = 8.0
IMAGES = 48
WARM_IMAGES = 6


@dataclass(frozen=True, slots=True)
class Company:
    """saturated: our side. passes: CPU seconds of one picture in the bare engines. idle: CPU
    seconds of each second in which nothing is drawn, by kind of process."""

    saturated: Saturation
    passes: float
    idle: Seconds

    @property
    def by_kind(self) -> dict[str, float]:
        """CPU seconds of one picture beside its passes, the most first."""
        used = dict(self.saturated.cpu_seconds_by_kind)
        used[DECODER] = used.get(DECODER, 0.0) - self.passes
        return dict(sorted(used.items(), key=lambda item: -item[1]))

    @property
    def seconds(self) -> float:
        """Of one picture, all kinds together."""
        return sum(self.by_kind.values())

    @property
    def idle_seconds(self) -> float:
        """The part of it that is used while nothing is drawn too."""
        return sum(self.idle.values()) / self.saturated.images_per_s

    @property
    def unused_seconds(self) -> float:
        """Of the time that all cores had for one picture: neither ours nor the generator's."""
        at_hand = len(os.sched_getaffinity(0)) / self.saturated.images_per_s
        ours = self.saturated.cpu_seconds_per_image
        return at_hand - ours - self.saturated.generator_cpu_seconds_per_image

    def summary(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "company_cpu_s_per_picture": round(self.seconds, 4),
            "company_by_kind": {kind: round(value, 4) for kind, value in self.by_kind.items()},
            "idle_cpu_s_per_picture": round(self.idle_seconds, 4),
            "idle_cores": round(sum(self.idle.values()), 4),
            "passes_cpu_s_per_picture": round(self.passes, 4),
            "generator_cpu_s_per_picture": round(self.saturated.generator_cpu_seconds_per_image, 4),
            "unused_cpu_s_per_picture": round(self.unused_seconds, 4),
            "images_per_s": round(self.saturated.images_per_s, 3),
        }

    def print(self) -> None:
        """A row for each kind of process, in ms a picture."""
        rate = self.saturated.images_per_s
        generator = self.saturated.generator_cpu_seconds_per_image
        kinds = self.by_kind.items()
        rows = [(kind, used, self.idle.get(kind, 0.0) / rate) for kind, used in kinds]
        rows.append(("together", self.seconds, self.idle_seconds))
        rows.append(("the load generator", generator, 0.0))
        rows.append(("used by none of them", self.unused_seconds, 0.0))
        columns = ("CPU ms a picture", "beside its passes", "used when idle too")
        cells = [(kind, f"{used * 1000:.1f}", f"{idle * 1000:.1f}") for kind, used, idle in rows]
        rich_table(f"company; the passes themselves: {self.passes * 1000:.0f} ms", columns, cells)


def idle_cores(seconds: float = IDLE_SECONDS) -> dict[str, float]:
    """CPU seconds a second by kind of process, measured for so long, a little after the last
    picture."""
    time.sleep(SETTLE_SECONDS)
    before, began = seconds_by_kind(), time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    return {kind: used / took for kind, used in since(before, seconds_by_kind()).items()}


def passes_alone(config: Config, images: int) -> float:
    """CPU seconds of a picture's passes and pixels in bare engines, laid out as our decoders."""
    args = parse_cluster_config(args_of(config))
    replicas, each = args.decoder.replicas, max(1, images // args.decoder.replicas)
    recipe = replace(sides.recipe_of(config), threads=threads_of(args.model.options))
    commands = [
        {"slots": args.decoder.slots, "first": n * each, "count": each} for n in range(replicas)
    ]
    with started("passes", recipe, replicas) as workers:
        workers.ask([{**command, "count": WARM_IMAGES} for command in commands])
        answers = workers.ask(commands)
    return sum(float(answer["cpu_seconds_per_image"]) for answer in answers) / replicas


def threads_of(options: Mapping[str, Any]) -> int:
    """Of each decoder's passes, by the options of its family."""
    return int(options.get("threads", 1)) or 1


def measure(config: Config, images: int) -> Company:
    """Boot our side, measure it idle and saturated, stop it, and run the same in bare engines."""
    clients = sides.clients_of(config)
    with sides.ours(config) as url:
        warm(url, clients)
        idle = idle_cores()
        saturated = saturate(url, clients, images)
    for kind, seconds in saturated.cpu_seconds_by_kind.items():
        say(f"{kind}: {1000 * seconds:.1f} ms a picture")
    say("the same pictures in bare engines")
    return Company(saturated, passes_alone(config, images), idle)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of a picture beside its passes.")
    parser.add_argument("--config", type=Path, default=Path("configs/laptop.yaml"))
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    company = measure(load_serve_config(options.config), options.images)
    company.print()
    say(json.dumps(company.summary()))


if __name__ == "__main__":
    main()
