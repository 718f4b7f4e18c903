"""Jobs that break a stage: which one and how is written in their prompts. And stages that can be
broken by them as processes are that die with all that they have in hand."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np

from dispatch.ports import CallFailed, CallLost, StageUnavailable
from engine.render import Conditioning, Pixels

STAGES = ("encoder", "prompt", "source", "before", "decoder", "blend", "after", "file")
"""before, after: the screen of the picture that comes in, and of the one that goes out."""
OF_EDITS = frozenset({"source", "before", "blend"})
KINDS = ("raises", "fails", "dies", "hangs")
COMPANY_SECONDS = 0.003
"""What a call takes, so that others are under way when the process dies."""
EXIT_CODE = 86
"""Of a process that poison has ended."""
_MARK = (13, 37)


def prompt_of(draw: random.Random, *, edit: bool) -> str:
    """The prompt of a poisonous wish."""
    stages = [stage for stage in STAGES if edit == (stage in OF_EDITS)]
    return f"poison {draw.choice(stages)} {draw.choice(KINDS)}"


def is_poison(prompt: str) -> bool:
    """Whether it must never become a picture."""
    return prompt.startswith("poison ")


def kind_of(prompt: str, stage: str) -> str | None:
    """What this prompt does to that stage."""
    words = prompt.split(maxsplit=2)
    return words[2] if words[:2] == ["poison", stage] else None


def read_prompt(conditioning: Conditioning) -> str:
    """The prompt that stages.conditioning_of has made this of."""
    return (
        bytes(conditioning.numpy("pooled").astype(np.uint8)).rstrip(b"\0").decode(errors="replace")
    )


def marked(pixels: Pixels, kind: str | None) -> Pixels:
    """A picture that does that to the stage that screens it."""
    if kind is None:
        return pixels
    pixels = pixels.copy()
    pixels[0, 0] = (*_MARK, KINDS.index(kind))
    return pixels


def mark_of(pixels: Any) -> str | None:
    """What a picture does to the stage that screens it."""
    red, green, blue = (int(value) for value in np.asarray(pixels)[0, 0, :3])
    return KINDS[blue] if (red, green) == _MARK and blue < len(KINDS) else None


class Process:
    """Calls go through it; it dies with all of them. `tried`: poison calls, by their prompts.
    `away`: there is none."""

    def __init__(self) -> None:
        self.away = False
        self.tried: Counter[str] = Counter()
        self._calls: set[asyncio.Future[None]] = set()

    async def work(self, prompt: str, kind: str | None) -> None:
        """One call."""
        if self.away:
            raise StageUnavailable("it is away")
        self.tried[prompt] += kind is not None
        if kind == "raises":
            raise ArithmeticError("it broke")
        if kind == "fails":
            raise CallFailed("this call is at fault")
        death = asyncio.get_running_loop().create_future()
        self._calls.add(death)
        try:
            if kind == "dies":
                self.die()
            await asyncio.wait({death}, timeout=None if kind == "hangs" else COMPANY_SECONDS)
            if death.done():
                raise CallLost("the process died")
        finally:
            self._calls.discard(death)

    def die(self) -> None:
        """With everything that it has in hand."""
        for death in self._calls:
            if not death.done():
                death.set_result(None)
