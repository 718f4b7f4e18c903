"""What tests of the engine share: a render, a listener and a clock."""

from __future__ import annotations

import threading

import numpy as np

from engine.render import Conditioning, RenderSpec, RenderUpdate, UpdateKind

PROMPT = Conditioning.from_numpy("", pooled=np.ones(384, np.float16))
PATIENCE_SECONDS = 60.0
"""How long a test waits for another thread before it says that it hangs."""


def spec(render_id: str, passes: int = 3, checkpoint: bytes | None = None) -> RenderSpec:
    return RenderSpec(render_id, PROMPT, 5, passes, preview_after=(1,), checkpoint=checkpoint)


class Heard:
    """Every update in order; waits for one from another thread."""

    def __init__(self) -> None:
        self.updates: list[RenderUpdate] = []
        self._changed = threading.Condition()

    def __call__(self, update: RenderUpdate) -> None:
        with self._changed:
            self.updates.append(update)
            self._changed.notify_all()

    def of(self, render_id: str) -> str:
        """The kinds, in one word each."""
        return " ".join(u.kind.value for u in self.updates if u.render_id == render_id)

    def last(self, render_id: str) -> RenderUpdate:
        return [u for u in self.updates if u.render_id == render_id][-1]

    def wait_for(self, kind: UpdateKind, render_id: str) -> None:
        def said() -> bool:
            return any(u.kind is kind and u.render_id == render_id for u in self.updates)

        with self._changed:
            assert self._changed.wait_for(said, PATIENCE_SECONDS)


class Clock:
    """Time passes only while a decoder sleeps in a pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
