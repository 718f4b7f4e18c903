"""How long renders wait for their first pass, and how many are drawn a second: the engine's running
batch, and the stock pipeline behind a lock, which draws one picture at a time."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from engine.decoder import Decoder
from engine.engine import DecoderEngine
from engine.render import RenderSpec, RenderUpdate, UpdateKind
from scripts.load import percentile, poisson_arrivals

STEPS = (4, 8, 12, 20, 30, 50)
POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Arrival:
    """A render that is asked for. due: seconds since the run began."""

    due: float
    spec: RenderSpec


@dataclass(slots=True)
class Measured:
    """waits: seconds from when each render was due to when its first pass began. wall_seconds: from
    the first that was due to the last picture."""

    waits: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0
    failed: list[str] = field(default_factory=list)

    @property
    def p95_wait(self) -> float:
        """Seconds."""
        return percentile(self.waits, 95)

    @property
    def images_per_s(self) -> float:
        """Over the whole run, its emptying included."""
        return len(self.waits) / self.wall_seconds


def arrivals(plain: RenderSpec, count: int, rate: float | None, seed: int) -> list[Arrival]:
    """Renders of mixed step counts, Poisson at so many a second, or all at once."""
    steps = random.Random(seed)
    due = [0.0] * count if rate is None else list(islice(poisson_arrivals(rate, seed), count))
    return [
        Arrival(at, replace(plain, render_id=str(i), seed=i, passes=steps.choice(STEPS)))
        for i, at in enumerate(due)
    ]


def one_at_a_time(draw: Callable[[RenderSpec], object], asked: Sequence[Arrival]) -> Measured:
    """The stock pipeline behind a lock: first come, first served."""
    found, began = Measured(), time.perf_counter()
    for arrival in asked:
        time.sleep(max(0.0, began + arrival.due - time.perf_counter()))
        found.waits.append(time.perf_counter() - began - arrival.due)
        draw(arrival.spec)
    found.wall_seconds = time.perf_counter() - began
    return found


def in_batches(decoder: Decoder, slots: int, asked: Sequence[Arrival]) -> Measured:
    """The engine with its running batch; what finds no slot waits in order."""
    run = _Run(decoder, slots)
    try:
        return run.through(asked)
    finally:
        run.close()


class _Run:
    """One engine under load. Its updates come on its own threads."""

    def __init__(self, decoder: Decoder, slots: int) -> None:
        self._lock = threading.Lock()
        self._first_pass: dict[str, float] = {}
        self._ended: set[str] = set()
        self._found = Measured()
        self._engine = DecoderEngine(decoder, slots, self._note)
        self._engine.start()

    def through(self, asked: Sequence[Arrival]) -> Measured:
        """Until all are drawn."""
        began, waiting, coming = time.perf_counter(), deque[RenderSpec](), deque(asked)
        while len(self._ended) < len(asked):
            while coming and began + coming[0].due <= time.perf_counter():
                waiting.append(coming.popleft().spec)
            while waiting and self._engine.free_slots > 0 and self._engine.add(waiting[0]):
                waiting.popleft()
            time.sleep(POLL_SECONDS)
        found = self._found
        found.wall_seconds = time.perf_counter() - began
        due = {arrival.spec.render_id: began + arrival.due for arrival in asked}
        found.waits = [at - due[render_id] for render_id, at in self._first_pass.items()]
        return found

    def close(self) -> None:
        """Stop the engine."""
        self._engine.stop()

    def _note(self, update: RenderUpdate) -> None:
        now = time.perf_counter()
        with self._lock:
            if update.kind is UpdateKind.PASS:
                self._first_pass.setdefault(update.render_id, now - update.pass_seconds)
            elif update.kind in (UpdateKind.DONE, UpdateKind.FAILED):
                self._ended.add(update.render_id)
                if update.error:
                    self._found.failed.append(update.error)
