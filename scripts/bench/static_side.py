"""Static batches in one process, for finding a rival's best layout: reads one command a line.

python -m scripts.bench.static_side RECIPE_JSON
then lines {"batch":, "rows_leave":, "batches":, "first":}
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

from scripts.bench.drawing import Drawer
from scripts.bench.recipe import Recipe
from scripts.bench.workload import asks


def measure(drawer: Drawer, first: int, batches: int, **changes: Any) -> dict[str, float]:
    """images_per_s of `batches` batches, one after another."""
    drawer.recipe = replace(drawer.recipe, **changes)
    batch, began = drawer.recipe.batch, time.perf_counter()
    for number in range(batches):
        drawer.draw(asks(first + number * batch, batch, drawer.recipe.passes))
    return {"images_per_s": batches * batch / (time.perf_counter() - began)}


def main() -> None:
    drawer = Drawer(Recipe.from_json(json.loads(sys.argv[1])))
    drawer.draw(asks(0, 1, drawer.recipe.passes))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(drawer, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
