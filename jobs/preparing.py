"""What was asked, before it meets a slot: encoded and screened. Prompts once for as long as they
are remembered, pictures to be changed every time.

A job that made way comes again with the same words, and under a flood most jobs do. Only exactly
the same words are the same; neither they nor who wrote them is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from jobs.ports import Classifier, Encoder, Press, Screening, StageUnavailable, leaving_is_away
from jobs.request import ImageRequest

log = logging.getLogger(__name__)
REMEMBERED = 256
"""Prompts; each is at most some 50 KB once it is encoded."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decoders need of a request, and whether it may be drawn."""

    conditioning: object
    verdict: Screening
    source: object | None = None


class Preparing:
    """Asks the stages. The prompt that was used longest ago is forgotten first."""

    def __init__(
        self, encoder: Encoder, classifier: Classifier, press: Press, retry_seconds: float
    ) -> None:
        self._encoder = encoder
        self._classifier = classifier
        self._press = press
        self._retry_seconds = retry_seconds
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()

    async def prepare(self, request: ImageRequest) -> Prepared:
        """Waits for stages that are away. Raises SourceGone, and what else they raise."""
        while True:
            try:
                with leaving_is_away():
                    return await self._ask(request)
            except StageUnavailable as error:
                log.warning("preparing waits: %s", error)
                await asyncio.sleep(self._retry_seconds)

    async def _ask(self, request: ImageRequest) -> Prepared:
        words = await self._words(request.prompt)
        if request.source is None or words.verdict.blocked:
            return words
        source = await self._press.source(request)
        verdict = await self._classifier.screen_image(source.pixels, request.moderation)
        return Prepared(words.conditioning, verdict, source)

    async def _words(self, prompt: str) -> Prepared:
        digest = sha256(prompt.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            conditioning = await self._encoder.encode(prompt)
            verdict = await self._classifier.screen_prompt(prompt, conditioning)
            known = self._known[digest] = Prepared(conditioning, verdict)
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known
