"""What the bench measures in processes of their own: static batches, for finding a rival's best
layout; the upper bound, the same work by DecoderEngine without Ray, HTTP or ledger, with a process
beside it that finishes the pictures; and what its passes alone cost. Each reads one command a line
and answers with one.

python -m scripts.bench.processes static RECIPE_JSON
    then lines {"batch":, "rows_leave":, "batches":, "first":}
python -m scripts.bench.processes engine RECIPE_JSON
    then lines {"engines":, "slots":, "count":}
python -m scripts.bench.processes passes RECIPE_JSON
    then lines {"slots":, "first":, "count":}
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from engine.decoder import Decoder
from engine.engine import DecoderEngine
from engine.registry import create_decoder
from engine.render import Pixels, RenderSpec, RenderUpdate, UpdateKind
from scripts.bench.drawing import Drawer, finisher_beside, spec_of
from scripts.bench.figures import steady_rate
from scripts.bench.workload import Ask, Recipe, asks


class EngineSide:
    """Closed loop: a feeder keeps every slot of every engine taken, a finisher takes the pixels.

    engines: how many share the process, each on its own thread. slots: of each.
    """

    def __init__(
        self, decoders: Sequence[Decoder], slots: int, take: Callable[[Pixels], object]
    ) -> None:
        self._take = take
        self._engines = [DecoderEngine(decoder, slots, self._heard) for decoder in decoders]
        self._room = threading.Semaphore(slots * len(decoders))
        self._finisher = ThreadPoolExecutor(1)
        self._finished: list[float] = []
        self._failed: list[str] = []

    def run(self, specs: Iterable[RenderSpec]) -> list[float]:
        """When each picture was taken, in seconds of time.perf_counter."""
        for engine in self._engines:
            engine.start()
        turns = itertools.cycle(self._engines)
        for spec in specs:
            self._room.acquire()
            while not next(turns).add(spec):
                pass  # another engine has the room
        for engine in self._engines:
            engine.drain()
            engine.stop()
        self._finisher.shutdown()
        if self._failed:
            raise RuntimeError(self._failed[0])
        return self._finished

    def _heard(self, update: RenderUpdate) -> None:
        if update.kind is UpdateKind.DONE and update.pixels is not None:
            self._finisher.submit(self._finish, update.pixels)
        elif update.kind is UpdateKind.FAILED:
            self._failed.append(update.error or "failed without a reason")
        last_pass = update.kind is UpdateKind.PASS and update.decoded
        if last_pass or update.kind is UpdateKind.FAILED:  # its slot is free
            self._room.release()

    def _finish(self, pixels: Pixels) -> None:
        self._take(pixels)
        self._finished.append(time.perf_counter())


def measure_engine(drawer: Drawer, engines: int, slots: int, count: int) -> dict[str, Any]:
    """images_per_s; a process beside this one finishes the pictures."""
    recipe, decoders = drawer.recipe, _decoders(drawer.recipe, engines)
    specs = (_prepared(drawer, ask) for ask in asks(0, count, recipe.passes))
    with finisher_beside(recipe) as finish:
        return {"images_per_s": steady_rate(EngineSide(decoders, slots, finish).run(specs))}


def measure_passes(drawer: Drawer, slots: int, first: int, count: int) -> dict[str, float]:
    """This process's CPU seconds of one picture's passes and pixels, in one engine: its prompt was
    encoded before, and nothing is screened or packed."""
    specs = [_prepared(drawer, ask) for ask in asks(first, count, drawer.recipe.passes)]
    side = EngineSide(_decoders(drawer.recipe, 1), slots, take=lambda _: None)
    cpu = time.process_time()
    side.run(specs)
    return {"cpu_seconds_per_image": (time.process_time() - cpu) / count}


def _decoders(recipe: Recipe, count: int) -> list[Decoder]:
    decoders = [create_decoder(recipe.family, **recipe.decoder_options()) for _ in range(count)]
    torch.set_num_threads(recipe.threads)
    return decoders


def _prepared(drawer: Drawer, ask: Ask) -> RenderSpec:
    (conditioning,) = drawer.prepare([ask.prompt])
    return spec_of(ask, conditioning, drawer.recipe.guidance)


def measure_static(drawer: Drawer, first: int, batches: int, **changes: Any) -> dict[str, float]:
    """images_per_s of `batches` batches, one after another."""
    drawer.recipe = replace(drawer.recipe, **changes)
    batch, began = drawer.recipe.batch, time.perf_counter()
    for number in range(batches):
        drawer.draw(asks(first + number * batch, batch, drawer.recipe.passes))
    return {"images_per_s": batches * batch / (time.perf_counter() - began)}


def main() -> None:
    drawer = Drawer(Recipe.from_json(json.loads(sys.argv[2])))
    verbs = {"engine": measure_engine, "passes": measure_passes, "static": measure_static}
    measure: Callable[..., dict[str, Any]] = verbs[sys.argv[1]]
    drawer.draw(asks(0, 1, drawer.recipe.passes))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(drawer, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
