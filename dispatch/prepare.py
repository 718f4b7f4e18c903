"""What was asked, before it meets a slot: encoded and screened. Prompts are encoded once for as
long as they are remembered; verdicts and pictures to be changed are asked for every time.

A preempted job comes again with the same words, and under a flood most jobs do. Only exactly
the same words are the same; neither they nor who wrote them is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial

from dispatch.checkpoints import load_checkpoints
from dispatch.decoder_inputs import DecoderInputs
from dispatch.in_flight import Lease
from dispatch.leases import OverdueJobs
from dispatch.ports import CallLost, StageUnavailable
from dispatch.settings import Stages
from dispatch.trials import Trials, call
from dispatch.verdict_notes import Screened, VerdictNotes, screened_picture, screened_words
from engine.capabilities import Capabilities
from engine.policy import Look, ScreenStage
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.render import Conditioning, LoraUse, Pixels, TensorBytes
from engine.verdict import Verdict
from jobs.request import ImageRequest

log = logging.getLogger(__name__)
GOOD_PROMPT = "a red fox"
"""Stages that are well answer to it."""
REMEMBERED = 256
"""Prompts at most."""
REMEMBERED_BYTES = 64 * 2**20
"""Of their conditionings: 15 KB each of the embedded encoder, 16 MB each of the largest."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decoders need of a request, and whether it may be drawn."""

    inputs: DecoderInputs
    verdict: Verdict
    screened: tuple[Screened, ...] = ()
    """What the verdict is about."""


class RecentPrompts:
    """Prompts that are encoded, by the digests of their words. The one that was used longest ago
    is forgotten first. No verdict is kept: it depends on the order, and on the policy of now."""

    def __init__(self, most_bytes: int = REMEMBERED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._prompts: OrderedDict[str, EncodedPrompt] = OrderedDict()

    def get(self, digest: str) -> EncodedPrompt | None:
        """None for one that is not known; else it is the one used last now."""
        if digest in self._prompts:
            self._prompts.move_to_end(digest)
        return self._prompts.get(digest)

    def put(self, digest: str, encoded: EncodedPrompt) -> None:
        """Remember it, unless another call that asked for it has been faster."""
        if digest in self._prompts:
            return
        self._prompts[digest] = encoded
        self._bytes += encoded.conditioning.nbytes
        while len(self._prompts) > REMEMBERED or self._bytes > self._most_bytes:
            _, forgotten = self._prompts.popitem(last=False)
            self._bytes -= forgotten.conditioning.nbytes

    def forget(self, conditioning: Conditioning) -> None:
        """Not the one that is known in its place since."""
        for digest, encoded in list(self._prompts.items()):
            if encoded.conditioning is conditioning:
                del self._prompts[digest]
                self._bytes -= conditioning.nbytes


class Preparing:
    """Asks the stages, each for so long at most. can: as of DispatchSettings."""

    def __init__(
        self,
        stages: Stages,
        limit_seconds: float,
        notes: VerdictNotes,
        can: Capabilities | None = None,
    ) -> None:
        self._notes = notes
        self._encoder = stages.encoder
        self._classifier = stages.classifier
        self._postprocessor = stages.postprocessor
        self._limit_seconds = limit_seconds
        self._known = RecentPrompts()
        self._encoder_looks = can is not None and can.encoder_looks

    async def prepare(self, request: ImageRequest) -> Prepared:
        """One try. Raises SourceGone, StageUnavailable, CallLost, CallFailed."""
        look = Look(ScreenStage.PROMPT, request.tier, request.moderation)
        loras = tuple(LoraUse(lora.name, lora.weight) for lora in request.loras)
        words = PromptText(request.prompt, request.negative_prompt, loras)
        encoded = await self._encoded(words)
        verdict = await self._screened(words, encoded, look)
        of_words = screened_words(verdict, words)
        if request.source is None or verdict.blocked:
            return Prepared(DecoderInputs(encoded.conditioning), verdict, (of_words,))
        inputs = await self._with_pictures(encoded.conditioning, request)
        look, screened = replace(look, stage=ScreenStage.INPUT_IMAGE), [of_words]
        for pixels in inputs.pictures:
            screening = self._classifier.screen_image(pixels, look)
            verdict = await call("source screen", screening, self._limit_seconds)
            screened.append(await screened_picture(look.stage, verdict, pixels))
            if verdict.blocked:
                return Prepared(inputs, verdict, tuple(screened))
        if self._encoder_looks:
            encoded = await self._encoded(await asyncio.to_thread(_with, words, inputs.pictures))
            inputs = replace(inputs, conditioning=encoded.conditioning)
        return Prepared(inputs, verdict, tuple(screened))

    async def _with_pictures(
        self, conditioning: Conditioning, request: ImageRequest
    ) -> DecoderInputs:
        """With the one that is changed, or those that are looked at."""
        reading, limit = self._postprocessor, self._limit_seconds
        if request.source is not None and request.source.references:
            seen = await call("references", reading.references(request), limit)
            return DecoderInputs(conditioning, references=seen)
        return DecoderInputs(conditioning, await call("source", reading.source(request), limit))

    async def prepare_job(self, lease: Lease, trials: Trials, overdue: OverdueJobs) -> Prepared:
        """However many tries it takes. Raises SourceGone, CallFailed, and StageUnavailable when a
        stage was away for too long."""
        request = lease.job.request
        prepare = partial(self.prepare, request)
        if lease.losses.suspect:  # not at once, and not together with those it was lost with
            overdue.add(lease)
            await asyncio.sleep(overdue.backoff_seconds(lease))
        while True:
            try:
                with overdue.timed(lease):
                    prepared = await trials.run(request.tenant, lease.losses.suspect, prepare)
                    for screened in prepared.screened:
                        self._notes.add(lease.job, None, screened)
                    await load_checkpoints(lease, self._postprocessor)
            except StageUnavailable as error:
                log.warning("preparing waits: %s", error)
                if overdue.gives_up(lease, error):
                    raise
                if isinstance(error, CallLost):
                    lease.losses.suspected()
                await asyncio.sleep(overdue.backoff_seconds(lease))
            else:
                overdue.remove(lease)
                return prepared

    def forget(self, inputs: DecoderInputs | None) -> None:
        """Encode that prompt anew, when it is asked for next."""
        if inputs is not None:
            self._known.forget(inputs.conditioning)

    async def probe(self) -> None:
        """Whether encoder and classifier answer to good words now. Raises as `prepare`."""
        words = PromptText(GOOD_PROMPT)
        await self._screened(words, await self._asked(words), Look(ScreenStage.PROMPT))

    async def _encoded(self, words: PromptText) -> EncodedPrompt:
        digest = await asyncio.to_thread(words.digest, "") if words.pictures else words.digest("")
        known = self._known.get(digest)
        if known is None:
            known = await self._asked(words)
            self._known.put(digest, known)
        return known

    async def _asked(self, words: PromptText) -> EncodedPrompt:
        return await call("prompt encoder", self._encoder.encode(words), self._limit_seconds)

    async def _screened(self, words: PromptText, encoded: EncodedPrompt, look: Look) -> Verdict:
        screening = self._classifier.screen_prompt(words, encoded.embeddings, look)
        return await call("prompt screen", screening, self._limit_seconds)


def _with(words: PromptText, pictures: tuple[Pixels, ...]) -> PromptText:
    return replace(words, pictures=tuple(map(TensorBytes.from_numpy, pictures)))
