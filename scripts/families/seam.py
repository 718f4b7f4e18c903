"""What it costs to run stock pipelines in lanes: `python -m scripts.families.seam`.

Tiny checkpoints whose denoiser answers at once, pictures of 1024 pixels, one thread, CPU time,
medians: what is left is the pipeline's own code, its scheduler, and the lanes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.seam import Asked, Denoisers
from tests.families import kit
from tests.families.kit import Case, folder, spec

EDGE, PASSES, RENDERS = 1024, 8, 4
CLASSES = ("StableDiffusionXLPipeline", "FluxPipeline", "SanaPipeline")


class Times:
    """Milliseconds of CPU time by what they were spent on."""

    def __init__(self) -> None:
        self._found: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, what: str, renders: int = 1) -> Iterator[None]:
        began = time.process_time()
        yield
        self._found[what].append((time.process_time() - began) * 1000 / renders)

    def median(self, what: str) -> float:
        return statistics.median(self._found[what])

    def __str__(self) -> str:
        return "  ".join(f"{what} {self.median(what):.2f} ms" for what in self._found)


def _answer_at_once(models: Denoisers) -> None:
    """From now on with zeros, in the form of the last real answers."""

    def answers(asked: Sequence[Asked]) -> list[Any]:
        return [models.blank(each) for each in asked]

    models.answers = answers  # type: ignore[method-assign]


def measured(name: str, repeats: int) -> Times:
    """Of one class."""
    decoder, case, times = DiffusersDecoder(folder(name)), Case(name, name), Times()
    asked = [spec(case, n, PASSES, width=EDGE, height=EDGE) for n in range(RENDERS)]
    first = decoder.begin(replace(asked[0], passes=1), None)
    decoder.step([first])
    decoder.drop(first)
    _answer_at_once(decoder.models)
    for _ in range(repeats):
        with times.of("begin", RENDERS):
            states = [decoder.begin(each, None) for each in asked]
        for _ in range(PASSES - 1):
            with times.of("pass", RENDERS):
                decoder.step(states)
        with times.of("checkpoint"):
            taken = decoder.checkpoint(states[0])
        with times.of("preview"):
            decoder.preview(states[0])
        with times.of("restore"):
            states.append(decoder.begin(asked[0], taken))
        for state in states:
            decoder.drop(state)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        kit.SCRATCH[:] = [Path(scratch)]
        for name in CLASSES:
            print(name, measured(name, repeats), sep="  ", flush=True)


if __name__ == "__main__":
    main()
