"""Prompts before they meet a slot: encoded and screened, once for as long as they are remembered.

A job that made way comes again with the same words, and under a flood most jobs do. Only exactly
the same words are the same; neither they nor who wrote them is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from jobs.ports import Classifier, Encoder, Screening, StageUnavailable, leaving_is_away

log = logging.getLogger(__name__)
REMEMBERED = 256
"""Prompts; each is at most some 50 KB once it is encoded."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decoders need of a prompt, and whether it may be drawn."""

    conditioning: object
    verdict: Screening


class Preparing:
    """Asks both stages. The prompt that was used longest ago is forgotten first."""

    def __init__(self, encoder: Encoder, classifier: Classifier, retry_seconds: float) -> None:
        self._encoder = encoder
        self._classifier = classifier
        self._retry_seconds = retry_seconds
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()

    async def prepare(self, prompt: str) -> Prepared:
        """Waits for stages that are away. Raises what else they raise."""
        digest = sha256(prompt.encode()).digest()
        known = self._known.get(digest)
        while known is None:
            try:
                known = await self._ask(prompt)
            except StageUnavailable as error:
                log.warning("preparing waits: %s", error)
                await asyncio.sleep(self._retry_seconds)
        self._known[digest] = known
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known

    async def _ask(self, prompt: str) -> Prepared:
        with leaving_is_away():
            conditioning = await self._encoder.encode(prompt)
            verdict = await self._classifier.screen_prompt(prompt, conditioning)
        return Prepared(conditioning, verdict)
