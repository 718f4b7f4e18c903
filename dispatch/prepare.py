"""What was asked, before it meets a slot: encoded and screened. Prompts once for as long as they
are remembered, pictures to be changed every time.

A job that made way comes again with the same words, and under a flood most jobs do. Only exactly
the same words are the same; neither they nor who wrote them is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from dispatch.ports import Classifier, Encoder, Postprocessor
from dispatch.trials import call
from engine.render import Conditioning, Source
from engine.verdict import Verdict
from jobs.request import ImageRequest

GOOD_PROMPT = "a red fox"
"""Stages that are well answer to it."""
REMEMBERED = 256
"""Prompts; each is at most some 50 KB once it is encoded."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decoders need of a request, and whether it may be drawn."""

    conditioning: Conditioning
    verdict: Verdict
    source: Source | None = None


class Preparing:
    """Asks the stages, each for so long at most. The prompt that was used longest ago is forgotten
    first."""

    def __init__(
        self,
        encoder: Encoder,
        classifier: Classifier,
        postprocessor: Postprocessor,
        limit_seconds: float,
    ) -> None:
        self._encoder = encoder
        self._classifier = classifier
        self._postprocessor = postprocessor
        self._limit_seconds = limit_seconds
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()

    async def prepare(self, request: ImageRequest) -> Prepared:
        """One try. Raises SourceGone, StageUnavailable, CallLost, CallFailed."""
        words = await self._words(request.prompt)
        if request.source is None or words.verdict.blocked:
            return words
        source = await call("source", self._postprocessor.source(request), self._limit_seconds)
        screening = self._classifier.screen_image(source.pixels, request.moderation)
        verdict = await call("source screen", screening, self._limit_seconds)
        return Prepared(words.conditioning, verdict, source)

    async def probe(self) -> None:
        """Whether encoder and classifier answer to good words now. Raises as `prepare`."""
        await self._asked(GOOD_PROMPT)

    async def _words(self, prompt: str) -> Prepared:
        digest = sha256(prompt.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = await self._asked(prompt)
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known

    async def _asked(self, prompt: str) -> Prepared:
        encoding = self._encoder.encode(prompt)
        conditioning = await call("prompt encoder", encoding, self._limit_seconds)
        screening = self._classifier.screen_prompt(prompt, conditioning)
        verdict = await call("prompt screen", screening, self._limit_seconds)
        return Prepared(conditioning, verdict)
