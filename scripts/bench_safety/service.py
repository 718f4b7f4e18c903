"""The service in this process: the real gateway, ledger, dispatcher, engine and embedded model, and
the real screens and text encoder in processes of their own. Only Ray is missing. Decoder and
classifier write down when they did what; times are of time.perf_counter."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dispatch.local_stages import ClassifierOptions, EncoderOptions, LocalClassifier, LocalEncoder
from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoder import DecodeState
from engine.decoders.masked import MaskedDecoder, MaskedState
from engine.policy import Look
from engine.render import Pixels
from engine.safety import IMAGE_SCREENS
from engine.verdict import Verdict
from scripts.bench_safety.counting import Abort, digest
from scripts.weapons.drawings import PREVIEWED
from scripts.weapons.prompts import SETS, Drawing
from scripts.wire import GENERATIONS
from tests.page.pipeline import Pipeline

IN_FLIGHT: Sequence[float] = PREVIEWED
AT_END: Sequence[float] = ()
PASSES = SETS["measured"][0]
SIDE = 128
CLIENTS = 8
KEY = {"authorization": "Bearer sk-local"}
BLOCKED = "moderation_blocked"


@dataclass
class Timeline:
    """ends: of the decoder's passes. passes: done by each render, by its seed. previews: seed and
    when it was drawn, by digest. freed: when each render's slot was free again, by seed."""

    ends: list[float] = field(default_factory=list)
    passes: Counter[int] = field(default_factory=Counter)
    previews: dict[str, tuple[int, float]] = field(default_factory=dict)
    freed: dict[int, float] = field(default_factory=dict)


class TimedDecoder(MaskedDecoder):
    """The embedded model's. Every render needs a seed of its own."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.timeline = Timeline()

    def step(self, batch: Sequence[DecodeState]) -> None:
        super().step(batch)
        self.timeline.ends.append(time.perf_counter())
        self.timeline.passes.update(map(_seed, batch))

    def preview(self, render: DecodeState) -> Pixels:
        pixels = super().preview(render)
        self.timeline.previews[digest(pixels)] = _seed(render), time.perf_counter()
        return pixels

    def drop(self, render: DecodeState) -> None:
        self.timeline.freed[_seed(render)] = time.perf_counter()
        super().drop(render)


def _seed(render: DecodeState) -> int:
    assert isinstance(render, MaskedState)
    return render.spec.seed


class TimedScreens(LocalClassifier):
    """looked: seconds from the question to a blocking verdict, by the digest of the picture."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.looked: dict[str, float] = {}

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        asked = time.perf_counter()
        verdict = await super().screen_image(pixels, look)
        if verdict.blocked:
            self.looked[digest(pixels)] = time.perf_counter() - asked
        return verdict

    @property
    def pid(self) -> int | None:
        """Of the screens' process, None while there is none."""
        return self._worker.pid


@dataclass(frozen=True, slots=True)
class Stages:
    """What services share: screens and text encoder."""

    screens: TimedScreens
    prompts: LocalEncoder


@contextmanager
def stages() -> Iterator[Stages]:
    """Started, and ended."""

    async def start() -> Stages:
        screens = ClassifierOptions(IMAGE_SCREENS, weights=str(DEFAULT_WEIGHTS))
        prompts = EncoderOptions("masked")
        return Stages(
            *await asyncio.gather(TimedScreens.start(screens), LocalEncoder.start(prompts))
        )

    started = asyncio.run(start())
    try:
        yield started
    finally:
        started.screens.close()
        started.prompts.close()


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """ledger: the path of its database."""

    url: str
    timeline: Timeline
    ledger: Path

    def order(self, drawings: Sequence[Drawing]) -> dict[int, str]:
        """Draw them all, so many clients at a time; what became of each by seed: "ok", or the
        error's code."""
        return asyncio.run(self._order(drawings))

    async def _order(self, drawings: Sequence[Drawing]) -> dict[int, str]:
        room = asyncio.Semaphore(CLIENTS)
        async with httpx.AsyncClient(
            base_url=self.url, headers=KEY, timeout=600, trust_env=False
        ) as http:

            async def one(drawing: Drawing) -> str:
                async with room:
                    answer = await http.post(GENERATIONS, json=body(drawing))
                return "ok" if answer.is_success else answer.json()["error"]["code"] or "error"

            codes = await asyncio.gather(*map(one, drawings))
        return dict(zip([drawing.seed for drawing in drawings], codes, strict=True))

    def aborts(self, screens: TimedScreens) -> list[Abort]:
        """Of renders here that were stopped by a bad preview before their last pass."""
        return [
            Abort(ready, screens.looked[name], self.timeline.freed[seed])
            for name, (seed, ready) in self.timeline.previews.items()
            if name in screens.looked and self.timeline.passes[seed] < PASSES
        ]

    def bad_previews(self, screens: TimedScreens) -> int:
        """How many there were."""
        return len(self.timeline.previews.keys() & screens.looked.keys())


@contextmanager
def service(shared: Stages, screen_at: Sequence[float]) -> Iterator[Service]:
    """One that listens. screen_at: after which shares of the passes it screens, beside the end."""
    settings = {
        "model": {"name": "meltproof-emoji", "family": "masked", "size": f"{SIDE}x{SIDE}"},
        "provenance": "off",
        "safety": {"screen_at": list(screen_at)},
        "tiers": {"free": {"images_per_day": None}},
        "keys": [{"key": "sk-local", "tenant": "local"}],
    }
    decoder = TimedDecoder()
    with tempfile.TemporaryDirectory(prefix="mp-safety-") as name:
        running = Pipeline(Path(name), settings, shared.screens, shared.prompts, decoder)
        try:
            yield Service(running.url, decoder.timeline, Path(name) / "ledger.db")
        finally:
            running.close()


def body(drawing: Drawing) -> dict[str, object]:
    """An order for it, of PASSES passes, at the size that it is drawn in."""
    size = f"{SIDE}x{SIDE}"
    return {"prompt": drawing.prompt, "seed": drawing.seed, "quality": "high", "size": size}
