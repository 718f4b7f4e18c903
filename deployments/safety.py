"""The safety classifier: real screens behind two short calls, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from deployments import loopback
from engine.render import Conditioning, Pixels
from engine.safety import SafetyScreens
from engine.verdict import Verdict

T = TypeVar("T")

loopback.install()


class SafetyReplica:
    """Screens prompts and pictures; refuses to start without its weights.

    screens: names of the image screens that are on. prompt: whether prompts are screened. weights:
    folder of the picture model, which carries its own concept screen. threads: for one picture.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, screens: Sequence[str], prompt: bool, weights: str, threads: int
    ) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="screen")
        self._screens = await self._run(partial(SafetyScreens, screens, prompt, weights, threads))

    async def screen_prompt(self, prompt: str, conditioning: Conditioning) -> Verdict:
        """A verdict on the words."""
        return await self._run(partial(self._screens.screen_prompt, prompt, conditioning))

    async def screen_image(self, pixels: Pixels, moderation: str) -> Verdict:
        """A verdict on a preview or a final picture."""
        return await self._run(partial(self._screens.screen_image, pixels, moderation))

    async def _run(self, work: Callable[[], T]) -> T:
        """Off the event loop, one at a time: the screens use every core they are given."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
