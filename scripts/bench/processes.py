"""What the bench measures in processes of their own: static batches, for finding a rival's best
layout, and the upper bound, the same work by DecoderEngine without Ray, HTTP or ledger. Each reads
one command a line and answers with one.

python -m scripts.bench.processes static RECIPE_JSON
    then lines {"batch":, "rows_leave":, "batches":, "first":}
python -m scripts.bench.processes engine RECIPE_JSON
    then lines {"engines":, "slots":, "count":}
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from engine.decoder import Decoder
from engine.engine import DecoderEngine
from engine.registry import create_decoder
from engine.render import Pixels, RenderUpdate, UpdateKind
from scripts.bench.drawing import Drawer, spec_of
from scripts.bench.figures import steady_rate
from scripts.bench.workload import Recipe, asks


class EngineSide:
    """Closed loop: a feeder keeps every slot of every engine taken, a finisher screens and packs.

    engines: how many share the process, each on its own thread. slots: of each.
    """

    def __init__(self, drawer: Drawer, decoders: list[Decoder], slots: int) -> None:
        self._drawer = drawer
        self._engines = [DecoderEngine(decoder, slots, self._heard) for decoder in decoders]
        self._room = threading.Semaphore(slots * len(decoders) + len(decoders))
        self._finisher = ThreadPoolExecutor(1)
        self._finished: list[float] = []
        self._failed: list[str] = []

    def run(self, first: int, count: int) -> list[float]:
        """When each picture was ready, in seconds of time.perf_counter."""
        for engine in self._engines:
            engine.start()
        recipe, turns = self._drawer.recipe, itertools.cycle(self._engines)
        for ask in asks(first, count, recipe.passes):
            (conditioning,) = self._drawer.prepare([ask.prompt])
            spec = spec_of(ask, conditioning, recipe.guidance)
            self._room.acquire()
            while not next(turns).add(spec):
                time.sleep(0.001)
        for engine in self._engines:
            engine.drain()
            engine.stop()
        self._finisher.shutdown()
        if self._failed:
            raise RuntimeError(self._failed[0])
        return self._finished

    def _heard(self, update: RenderUpdate) -> None:
        if update.kind is UpdateKind.DONE and update.pixels is not None:
            self._finisher.submit(self._postprocess, update.pixels)
        elif update.kind is UpdateKind.FAILED:
            self._failed.append(update.error or "failed without a reason")
        if update.kind in (UpdateKind.DONE, UpdateKind.FAILED):
            self._room.release()

    def _postprocess(self, pixels: Pixels) -> None:
        self._drawer.postprocess([pixels])
        self._finished.append(time.perf_counter())


def measure_engine(drawer: Drawer, engines: int, slots: int, count: int) -> dict[str, Any]:
    """images_per_s and this process's CPU seconds of one picture."""
    recipe = drawer.recipe
    options = recipe.decoder_options()
    decoders = [create_decoder(recipe.family, **options) for _ in range(engines)]
    torch.set_num_threads(recipe.threads)
    side, cpu = EngineSide(drawer, decoders, slots), time.process_time()
    finished = side.run(0, count)
    return {
        "images_per_s": steady_rate(finished),
        "cpu_seconds_per_image": (time.process_time() - cpu) / count,
    }


def measure_static(drawer: Drawer, first: int, batches: int, **changes: Any) -> dict[str, float]:
    """images_per_s of `batches` batches, one after another."""
    drawer.recipe = replace(drawer.recipe, **changes)
    batch, began = drawer.recipe.batch, time.perf_counter()
    for number in range(batches):
        drawer.draw(asks(first + number * batch, batch, drawer.recipe.passes))
    return {"images_per_s": batches * batch / (time.perf_counter() - began)}


def main() -> None:
    drawer = Drawer(Recipe.from_json(json.loads(sys.argv[2])))
    measure = {"engine": measure_engine, "static": measure_static}[sys.argv[1]]
    drawer.draw(asks(0, 1, drawer.recipe.passes))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(drawer, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
